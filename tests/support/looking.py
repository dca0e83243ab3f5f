"""Driving the real claim and apply with answers of one's own, as the worker would, without a provider."""

import json
from typing import Any

from service.database.pool import Database
from service.mercadopago.reader import read_order
from service.sync.apply import Look, Outcome, apply_looks
from service.sync.claims import Claim, claim_one, mark_order_due


async def claim(database: Database, order_id: str, *, account: str = "default", lease_seconds: float = 30) -> Claim:
    """Marks an order and claims it."""
    await mark_order_due(database, order_id, account)
    claimed = await claim_one(database, order_id, lease_seconds=lease_seconds)
    assert claimed is not None, "somebody else holds the order"
    return claimed


def look(claimed: Claim, body: dict[str, Any]) -> Look:
    """The claim served with this answer."""
    return Look(claimed, read=read_order(json.dumps(body).encode(), claimed.order_id))


async def see(database: Database, *bodies: dict[str, Any], account: str = "default") -> list[Outcome]:
    """Claims and applies these answers, all in one batch."""
    looks = [look(await claim(database, body["id"], account=account), body) for body in bodies]
    return await apply_looks(database, looks)


async def open_discrepancies(database: Database) -> set[tuple[str, str, str]]:
    """(order id, rule, subject) of what is open now."""
    rows = await database.fetch("select order_id, rule, subject_id from cuadre.discrepancies where resolved_at is null")
    return {(row["order_id"], row["rule"], row["subject_id"]) for row in rows}
