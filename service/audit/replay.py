"""Looking again at the orders that recorded notifications speak of.

A notification is a hint, so replaying it is marking its order due: once per order, however many spoke of it. Nothing
is stored from what the notification itself says. Marking again is harmless, so an interrupted replay is done again.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from service.database.pool import Database
from service.database.queries import load

QUERIES = load(Path(__file__).with_name("replay.sql"))

State = Literal["recorded", "verified", "unverified", "refused", "quarantined", "unserved", "unstored"]
BATCH: Final = 500
# Of an account's rate: what is told now must not wait behind what was told long ago.
SHARE: Final = 0.5
WEBHOOKS_PATH: Final = "/webhooks/mercadopago"

Route = Callable[[str | None, str | None, str | None], str | None]
"""Whose a notification would be now: (account in the path, user id, application id) -> account's name, or None."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which notifications; None where it does not matter. `until` is exclusive.

    `recorded` are all but the samples of refused ones; `quarantined`, `unserved` (a look is still owed) and `unstored`
    go by the state of the order that was spoken of.
    """

    since: datetime | None = None
    until: datetime | None = None
    numbers: tuple[int, ...] | None = None
    topic: str | None = None
    account: str | None = None
    state: State = "recorded"

    def arguments(self) -> tuple[object, ...]:
        """As the statements take them."""
        numbers = None if self.numbers is None else list(self.numbers)
        return self.since, self.until, numbers, self.topic, self.account, self.state


@dataclass(frozen=True, slots=True)
class Group:
    """Notifications that are routed alike, as they were recorded."""

    account: str
    path: str
    user_id: str | None
    application_id: str | None


@dataclass(slots=True)
class Plan:
    """What a replay would do. All but `orders` count notifications; `without_order` goes by topic."""

    notifications: int = 0
    to_replay: int = 0
    orders: int = 0
    without_order: Counter[str] = field(default_factory=Counter)
    rerouted: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    """By the account it was recorded for, and the account it would go to now."""
    lost: list[Group] = field(default_factory=list)


async def plan(database: Database, asked: Asked, route: Route) -> Plan:
    """Counts, and changes nothing."""
    planned = Plan()
    for row in await database.fetch(QUERIES.count_replay, *asked.arguments()):
        number = row["notifications"]
        planned.notifications += number
        group = Group(row["account"], row["path"], row["user_id"], row["application_id"])
        now = route(_account_in(group.path), group.user_id, group.application_id)
        if not row["has_order"]:
            planned.without_order[row["topic"] or "none"] += number
        elif now != group.account:
            planned.rerouted[group.account, now] += number
            planned.lost.append(group)
        else:
            planned.to_replay += number
    async for batch in _batches(database, asked, planned.lost):
        planned.orders += len(batch)
    return planned


async def replay(
    database: Database,
    asked: Asked,
    planned: Plan,
    rates: Mapping[str, float],
    *,
    on_marked: Callable[[int], None] = lambda number: None,
) -> int:
    """Marks the orders due, a commit for each batch; returns how many were marked.

    `rates` are the accounts' calls per second: the looks are spread so that they take half of it. `on_marked` is told
    after each batch how many orders were gone through.
    """
    marked = 0
    before: Counter[str] = Counter()
    async for batch in _batches(database, asked, planned.lost):
        waits = []
        for row in batch:
            pace = max(1.0, rates.get(row["account"], 1.0) * SHARE)
            waits.append(float(before[row["account"]] // pace))
            before[row["account"]] += 1
        rows = await database.fetch(
            QUERIES.mark_replayed,
            [row["order_id"] for row in batch],
            [row["account"] for row in batch],
            [row["verified"] for row in batch],
            [row["notification_id"] for row in batch],
            waits,
        )
        marked += len(rows)
        on_marked(len(batch))
    return marked


async def _batches(database: Database, asked: Asked, lost: list[Group]) -> AsyncIterator[list[Any]]:
    after = ""
    while batch := await database.fetch(
        QUERIES.next_replay_orders,
        *asked.arguments(),
        after,
        BATCH,
        [group.account for group in lost],
        [group.path for group in lost],
        [group.user_id for group in lost],
        [group.application_id for group in lost],
    ):
        yield batch
        after = batch[-1]["order_id"]


def _account_in(path: str) -> str | None:
    """The account that a delivery's path named."""
    return path.removeprefix(WEBHOOKS_PATH).strip("/") or None
