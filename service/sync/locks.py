"""The advisory locks under which orders are written and judged: one global order, so nobody waits in a circle.

Whoever changes what the rules compare an order with (a command's outcome) takes the order's lock in the transaction
that changes it, and marks the order due in the same or a later one. A look at the order that is in flight then either
sees the change, because it takes the lock afterwards, or is followed by a look that does: the rules are evaluated
again either way.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from service.sync.claims import QUERIES

REFERENCE_ROUNDS = 5
"""How often a transaction begins again with more references, before it is given up: they change seldom."""


class ReferenceMovedError(Exception):
    """A stored order has another reference than the ones locked: lock again in a new transaction, with these too."""

    def __init__(self, references: set[tuple[str, str]]) -> None:
        super().__init__("an order's reference is not locked yet")
        self.references = references


async def lock_orders(connection: Any, order_ids: Iterable[str]) -> datetime:
    """Locks these orders until the transaction of `connection` ends, stored or not; waits for whoever has them.

    Returns the database's time after the last lock was granted: what is written now carries it. A transaction calls it
    once, before it locks any row.
    """
    return await lock(connection, order_ids, ())


async def lock(connection: Any, order_ids: Iterable[str], references: Iterable[tuple[str, str]]) -> datetime:
    """As `lock_orders`, together with (account, external reference) pairs, which `duplicate_sale` is judged under."""
    keys = {_key("order", order_id) for order_id in order_ids}
    keys |= {_key("reference", account, reference) for account, reference in references}
    now: datetime = await connection.fetchval(QUERIES.lock_keys, sorted(keys))
    return now


def _key(*parts: str) -> int:
    """A 64-bit advisory lock key; two things that share one merely wait for each other."""
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big", signed=True)
