"""The rules over what is stored already, without a look: time has passed, or somebody wants to be sure of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from asyncpg import Record

from service.database.pool import Database
from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.reader import read_any
from service.sync.changes import Applied, DiscrepancyChange, changes_within, judge_again
from service.sync.claims import QUERIES
from service.sync.locks import lock_orders
from service.sync.policies import RefundPolicy, no_policy
from service.sync.rows import asked_commands, change_row, stored_order, to_json_text

UNREADABLE_AGAIN = timedelta(days=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Judged:
    """Stored orders as the rules see them now; `unreadable` are the ids of those whose payload cannot be read."""

    orders: tuple[Applied, ...]
    unreadable: tuple[str, ...]


async def judge_stored(
    database: Database, ids: Sequence[str], *, refunds_only_here_since: RefundPolicy = no_policy
) -> list[DiscrepancyChange]:
    """Re-evaluates stored orders whose rules are due, without a look: time alone can open a discrepancy.

    `duplicate_sale` is left out: time does not move it.
    """
    async with database.transaction() as connection:
        now = await lock_orders(connection, ids)
        judged = judge_rows(await read_payloads(connection, ids), now, refunds_only_here_since)
        next_times: dict[str, datetime | None] = {one.snapshot.order_id: one.rules_due_at for one in judged.orders}
        # It must not hold up the others, nor be forgotten.
        next_times |= dict.fromkeys(judged.unreadable, now + UNREADABLE_AGAIN)
        changes = changes_within(judged.orders)
        await write_next_times(connection, now, next_times)
        versions = {one.snapshot.order_id: one.version for one in judged.orders}
        await write_changes(connection, now, changes, versions)
    return changes


async def read_payloads(connection: Any, ids: Sequence[str]) -> list[Record]:
    """The rows of `read_stored_orders` with their payloads, in the order of `ids`."""
    rows: list[Record] = await connection.fetch(QUERIES.read_stored_orders, ids, ids)
    return rows


def judge_rows(rows: Sequence[Record], now: datetime, refunds_only_here_since: RefundPolicy) -> Judged:
    """Pure: the rules over rows that hold a payload; rows of orders that are not stored are passed over."""
    judged: list[Applied] = []
    unreadable: list[str] = []
    for row in rows:
        stored = stored_order(row)
        if stored is None:
            continue
        try:
            read = read_any(row["payload"].encode(), stored.order_id)
        except MercadoPagoError as error:
            # Stored by a build that read more.
            log.warning("stored_order_unreadable", order_id=stored.order_id, error=str(error))
            unreadable.append(stored.order_id)
            continue
        judged.append(
            judge_again(
                read.snapshot,
                stored,
                now,
                commands=asked_commands(row),
                refunds_only_here_since=refunds_only_here_since,
            )
        )
    return Judged(tuple(judged), tuple(unreadable))


async def write_next_times(connection: Any, now: datetime, next_times: Mapping[str, datetime | None]) -> None:
    """When the rules of these orders are to be evaluated again by time alone."""
    if next_times:
        ids = sorted(next_times)
        nothing = [None] * len(ids)
        await connection.execute(
            QUERIES.refresh_orders, ids, nothing, nothing, [next_times[order_id] for order_id in ids], now
        )


async def write_changes(
    connection: Any, now: datetime, changes: Sequence[DiscrepancyChange], versions: Mapping[str, int]
) -> None:
    """Opens, refreshes and resolves; `versions` are the versions that the orders have now, for the events."""
    if changes:
        rows = [change_row(change, versions) for change in changes]
        await connection.execute(QUERIES.change_discrepancies, to_json_text(rows), now)
