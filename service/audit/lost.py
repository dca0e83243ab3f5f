"""Orders that were stored and whose row in `orders` is gone: by hand, or by a restore that brought back only a part.

That an order was stored is what its line in `sync` says, or its versions. One that never was (unknown to the provider,
waiting for its first look, in quarantine) is nobody's loss. What is left of a lost one is enough to go on with it: its
number of versions, when it was first seen, and, folded from the versions, what the rules remember of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from asyncpg import Record

from service.audit.runs import QUERIES
from service.database.pool import Database
from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.payer import order_without_payer
from service.mercadopago.reader import ReadOrder, read_any
from service.orders.fence import AHEAD_AT_MOST, Stamp
from service.orders.history import to_json
from service.sync.lost import fold_versions
from service.sync.rows import to_json_text

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LostOrder:
    """An order that was stored and is not. `account` is whose it was."""

    order_id: str
    account: str


async def read_lost(database: Database, order_ids: Sequence[str]) -> list[LostOrder]:
    """Those of these orders that are lost, by id. Raises what the database raises."""
    rows = await database.fetch(QUERIES.read_lost_orders, order_ids) if order_ids else []
    return [LostOrder(row["order_id"], row["account"]) for row in rows]


async def put_back(database: Database, order: LostOrder, answer: ReadOrder) -> bool:
    """Gives the order its row back, as its last version left it, for `answer` to be applied to; it is due at once.

    The row's hash is empty and its time the answer's, as for any repair: any look writes it anew, with the next
    version. False where the last version is of a later time than the answer: then nothing is written. Who was erased
    stays away: where the last version names no payer, none is stored later.
    """
    versions = await database.fetch(QUERIES.read_versions, order.order_id)
    last = _read(versions[-1], order.order_id) if versions else None
    claimed_at = versions[-1]["claimed_at"] if versions else _LONG_AGO
    at = answer.snapshot.updated_at
    # A date that the fence does not believe is none, or it would keep every repair out.
    stored_at = Stamp(last.snapshot.updated_at, claimed_at).provider_time if last else None
    if at is not None and stored_at is not None and stored_at > at:
        return False
    await database.execute(
        QUERIES.put_back_order,
        order.order_id,
        order.account,
        None if at is None else min(at, claimed_at + AHEAD_AT_MOST),
        claimed_at,
        to_json_text(to_json(fold_versions(versions, order.order_id))),
        min((row["observed_at"] for row in versions), default=None),
        last is not None and order_without_payer(last) is not last,
    )
    return True


def _read(version: Record, order_id: str) -> ReadOrder | None:
    try:
        return read_any(version["payload"].encode(), order_id)
    except MercadoPagoError:
        return None
