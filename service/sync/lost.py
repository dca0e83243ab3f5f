"""Orders whose row in `orders` is gone: what is left of them, for the look that stores them anew."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from asyncpg import Record

from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.reader import read_any
from service.orders.history import EMPTY, History, remember
from service.sync.changes import LeftOver
from service.sync.claims import QUERIES
from service.sync.payments_overlay import DATE_MEMBER, under_their_own_names
from service.sync.rows import open_discrepancies, refund_first_seen


async def read_left_over(connection: Any, rows: Sequence[Record], were_stored: Collection[str]) -> dict[str, LeftOver]:
    """What is left of those of these rows of `read_stored_orders` that are not stored, by order id.

    `were_stored` are ids of orders that are known to have been stored. That one has payments says so, too.
    """
    missing = [row for row in rows if row["version"] is None]
    lost = [row["order_id"] for row in missing if row["order_id"] in were_stored or row["has_parts"]]
    last_versions: dict[str, int] = {}
    versions: dict[str, list[Record]] = {}
    if lost:
        for row in await connection.fetch(QUERIES.read_last_versions, lost):
            last_versions[row["order_id"]] = row["version"]
        for row in await connection.fetch(QUERIES.read_lost_versions, lost):
            versions.setdefault(row["order_id"], []).append(row)
    return {
        row["order_id"]: LeftOver(
            last_versions.get(row["order_id"], 0),
            _remembered(versions.get(row["order_id"], ()), row["order_id"], refund_first_seen(row)),
            open_discrepancies(row),
        )
        for row in missing
    }


def _remembered(versions: Iterable[Record], order_id: str, first_seen: Mapping[str, datetime]) -> History:
    """What the versions tell; the refunds' own rows know their first sight."""
    history = fold_versions(versions, order_id)
    return replace(history, refund_first_seen={**history.refund_first_seen, **first_seen})


def fold_versions(versions: Iterable[Record], order_id: str) -> History:
    """What the rules remember, by one order's versions (`payload`, `observed_at`), first to last: each look's step."""
    history = EMPTY
    for version in versions:
        try:
            read = read_any(version["payload"].encode(), order_id)
        except MercadoPagoError:
            # Stored by a build that read more.
            continue
        known = history if DATE_MEMBER in read.text else under_their_own_names(history, read.snapshot)
        history = remember(known, read.snapshot, version["observed_at"])
    return history
