"""A claim: one order, held under a lease, with the stamp that the fence decides by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from asyncpg import Record

from service.database.pool import Database
from service.database.queries import load

QUERIES = load(Path(__file__).with_name("queries.sql"))

STORED: Final = 2
"""The `trust` of an order that was stored, whether its row is there still or lost."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Up to `room` orders of one account: known ones (stored, or spoken of by somebody trusted) or strangers."""

    account: str
    known: bool
    room: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker holds. `generation` is the `requested` counter that it serves; `attempts` counts this one too.

    `marked_at` is when a look was last asked for, as long as no look has shown what came of it.
    """

    order_id: str
    account: str
    trust: int
    generation: int
    lease_token: UUID
    claimed_at: datetime
    attempts: int
    troubles: int
    lost_leases: int
    failing_since: datetime | None
    last_error: str | None
    quarantined: bool
    cause: str
    notification_id: int | None
    waited_seconds: float
    marked_at: datetime | None = None

    @property
    def known(self) -> bool:
        return self.trust > 0


def _claim(row: Record) -> Claim:
    return Claim(**{name: row[name] for name in Claim.__slots__})


async def claim_due(
    database: Database, lanes: Sequence[Lane], *, lease_seconds: float, at_most: int = 1000
) -> list[Claim]:
    """Claims what is due in these lanes, `at_most` in all; known orders before strangers. Waits for no other worker."""
    rows = await database.fetch(
        QUERIES.claim_due_orders,
        [lane.account for lane in lanes],
        [lane.known for lane in lanes],
        [lane.room for lane in lanes],
        lease_seconds,
        at_most,
    )
    return [_claim(row) for row in rows]


async def claim_one(database: Database, order_id: str, *, lease_seconds: float) -> Claim | None:
    """Claims one order by name, due or not; None while somebody else holds it."""
    row = await database.fetchrow(QUERIES.claim_one_order, order_id, lease_seconds)
    return None if row is None else _claim(row)


async def release(database: Database, claims: Iterable[Claim]) -> None:
    """Gives claims back unserved: due again at once, no attempt counted."""
    held = sorted(claims, key=lambda claim: claim.order_id)
    if held:
        await database.execute(
            QUERIES.release_claims, [claim.order_id for claim in held], [claim.lease_token for claim in held]
        )


async def mark_order_due(database: Database, order_id: str, account: str) -> int:
    """An operator asks for a look now. Returns the generation to wait for."""
    generation: int = await database.fetchval(QUERIES.mark_order_due, order_id, account)
    return generation
