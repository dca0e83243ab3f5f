"""Runs of a comparison and what they found, as rows of `verifications` and `drifts`.

A page's findings and the cursor move in one commit, and only from where this process read the cursor: of two processes
that go on with one run, the first to commit a page keeps it and the other ends.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from asyncpg import Record

from service.audit.compare import Drift
from service.database.pool import Database
from service.database.queries import load

if TYPE_CHECKING:
    from service.database.pool import Connection

QUERIES = load(Path(__file__).with_name("verify.sql"))

RunKind = Literal["full", "since", "sample", "nightly"]
Outcome = Literal["equal", "drift", "stale", "unanswered", "unprovable", "not_asked", "refused"]
FoundKind = Literal["drift", "stale", "unanswered", "unprovable"]

RESUME_HOURS: Final = 24
# Of an account with more orders, and of `sync`, only so many pages are read to count or to draw: seconds at most.
COUNTED_ONE_BY_ONE: Final = 200_000
PAGES_READ: Final = 10_000
# What stands in `drifts.field` for an order that was not compared (not answered for, or not to be proved any more), for
# one that is equal though an earlier run found it to differ, and for `updated_at` of one that is stale.
UNANSWERED: Final = "unanswered"
UNPROVABLE: Final = "unprovable"
EQUAL: Final = "equal"
STALE: Final = "stale"
PSEUDO_FIELDS: Final = (UNANSWERED, UNPROVABLE, EQUAL)
"""What in `drifts.field` is no difference."""


class TakenOver(Exception):  # noqa: N818 - says what became of the run, not that something broke
    """Another process goes on with this run."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be compared: all orders, those touched `since` then, or `sample` of them by chance."""

    kind: RunKind
    account: str | None = None
    repair: bool = False
    since: datetime | None = None
    sample: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `verifications`. `checked` is `equal` + `drifted` + `unanswered` + `unprovable`.

    `repaired` are among the `drifted`. An order that was found to differ before the run was interrupted is `drifted`,
    whatever becomes of it when the run is gone on with.
    """

    verification_id: int
    kind: RunKind
    account: str | None
    repair: bool
    since: datetime | None
    started_at: datetime
    moved_at: datetime
    finished_at: datetime | None
    cursor: str
    to_check: int
    checked: int
    equal: int
    drifted: int
    repaired: int
    unanswered: int

    @property
    def unprovable(self) -> int:
        """Orders that GET is documented for no more, is not answered for, and that hold no money to ask for instead."""
        return self.checked - self.equal - self.drifted - self.unanswered

    @property
    def by_chance(self) -> bool:
        """Whether the orders are drawn, so that no cursor says which are left."""
        return self.kind in {"sample", "nightly"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one order came out.

    `not_asked`: its account is not configured; `refused`: its account's token is, so the run cannot end.
    `unprovable`: nobody can tell any more, and no money is in it. `reason` says why it was not compared, or not
    repaired.
    `by_payments`: GET answers for it no more, so its payments in the Payments API were compared.
    """

    order_id: str
    account: str
    outcome: Outcome
    drifts: tuple[Drift, ...] = ()
    reason: str | None = None
    by_payments: bool = False
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class FoundOrder:
    """An order that a run did not find equal.

    Of an `unanswered` or `unprovable` one the only drift says why, as `provider`.
    """

    order_id: str
    account: str
    kind: FoundKind
    drifts: tuple[Drift, ...]
    found_at: datetime
    repaired_at: datetime | None


async def count_by_account(database: Database, accounts: Sequence[str]) -> dict[str, int]:
    """How many orders each of these accounts has, those whose row is gone among them; of a large one, about."""
    rows = await database.fetch(QUERIES.count_by_account, accounts, COUNTED_ONE_BY_ONE, PAGES_READ)
    return {row["account"]: row["orders"] for row in rows}


async def begin(database: Database, wish: Wish, *, restart: bool = False, stored: int | None = None) -> Run:
    """The run to go on with: the latest of this wish where it was interrupted within 24 hours, else a new one.

    `stored`: how many orders there are to compare or to draw from, where that is known. None: they are counted.
    """
    to_check = stored
    if to_check is None:
        to_check = int(await database.fetchval(QUERIES.count_orders, wish.account, wish.since))
    if wish.sample is not None:
        to_check = min(wish.sample, to_check)
    words = (wish.kind, wish.account, wish.repair, wish.since)
    row = await database.fetchrow(QUERIES.find_verification, *words, RESUME_HOURS)
    open_still = row is not None and row["finished_at"] is None and row["is_recent"]
    # An account's share of the night's sample moves with every sale; what was begun is gone on with all the same.
    as_many = wish.sample is None or wish.kind == "nightly" or (row is not None and row["to_check"] == to_check)
    if row is not None and open_still and not restart and as_many:
        return _run(row)
    row = await database.fetchrow(QUERIES.begin_verification, *words, to_check)
    assert row is not None  # an insert returns its row
    return _run(row)


async def commit_page(database: Database, run: Run, verdicts: Sequence[Verdict], *, cursor: str) -> Run:
    """Findings, cursor and sums of a page, in one commit. `cursor` is its last order. Raises `TakenOver`."""
    equal = [one for one in verdicts if one.outcome == "equal"]
    # In a run that repairs, an equal order may have been mended by a process that ended before it could say so.
    mended = [one.order_id for one in verdicts if one.repaired or (run.repair and one.outcome == "equal")]
    async with database.transaction() as connection:
        ids = [one.order_id for one in verdicts]
        rows = await connection.fetch(QUERIES.found_before, run.verification_id, ids, PSEUDO_FIELDS)
        before = {row["order_id"] for row in rows}
        counted = Counter(one.outcome for one in verdicts if one.order_id not in before and not one.drifts)
        moved = await connection.fetchval(
            QUERIES.advance_verification,
            run.verification_id,
            run.cursor,
            run.checked,
            run.cursor if run.by_chance else cursor,
            counted.total(),
            counted["equal"],
            counted["unanswered"] + counted["not_asked"],
        )
        if moved is None:
            raise TakenOver
        await keep(connection, run, [one for one in verdicts if one.drifts or one.order_id not in before])
        await connection.execute(QUERIES.mark_repaired, run.verification_id, mended)
        same = ([one.order_id for one in equal], [one.account for one in equal])
        await connection.execute(QUERIES.note_equal, run.verification_id, *same, EQUAL, PSEUDO_FIELDS)
        row = await connection.fetchrow(QUERIES.count_drifts, run.verification_id, PSEUDO_FIELDS)
    assert row is not None  # the run was there a statement ago
    return _run(row)


async def keep(target: "Database | Connection", run: Run, verdicts: Iterable[Verdict]) -> None:
    """Writes down what was found. Again and again is as good as once."""
    rows = [(verdict.order_id, verdict.account, *row) for verdict in verdicts for row in _rows(verdict)]
    if rows:
        columns = (list(column) for column in zip(*rows, strict=True))
        await target.execute(QUERIES.keep_drifts, run.verification_id, *columns)


async def finish(database: Database, run: Run) -> Run:
    """Ends the run. Raises `TakenOver` where another process did."""
    row = await database.fetchrow(QUERIES.finish_verification, run.verification_id)
    if row is None:
        raise TakenOver
    return _run(row)


async def read_found(database: Database, verification_id: int, *, at_most_rows: int) -> tuple[list[FoundOrder], bool]:
    """What a run found, by order id, and whether there is more than `at_most_rows` fields of it."""
    rows = await database.fetch(QUERIES.read_drifts, verification_id, at_most_rows + 1, EQUAL)
    by_order: dict[str, list[Record]] = {}
    for row in rows[:at_most_rows]:
        by_order.setdefault(row["order_id"], []).append(row)
    return [_found_order(one) for one in by_order.values()], len(rows) > at_most_rows


def _found_order(rows: Sequence[Record]) -> FoundOrder:
    """One order of a run from its rows in `drifts` (at least one)."""
    # An order may be drawn twice in a run that was interrupted: what was found to differ stands.
    rows = [row for row in rows if row["field"] not in PSEUDO_FIELDS] or rows[:1]
    fields = {row["field"] for row in rows}
    kind: FoundKind = "stale" if STALE in fields else "drift"
    if rows[0]["field"] in PSEUDO_FIELDS:
        kind = rows[0]["field"]
    return FoundOrder(
        order_id=rows[0]["order_id"],
        account=rows[0]["account"],
        kind=kind,
        drifts=tuple(
            Drift("updated_at" if row["field"] == STALE else row["field"], row["stored"], row["provider"])
            for row in rows
        ),
        found_at=rows[0]["found_at"],
        repaired_at=rows[0]["repaired_at"],
    )


def _rows(verdict: Verdict) -> list[tuple[str, str | None, str | None]]:
    """The verdict as field, stored, provider: what `_found_order` reads again."""
    if verdict.outcome in {UNANSWERED, UNPROVABLE}:
        return [(verdict.outcome, None, verdict.reason)]
    stale = verdict.outcome == "stale"
    return [
        (STALE if stale and drift.field == "updated_at" else drift.field, drift.stored, drift.provider)
        for drift in verdict.drifts
    ]


def _run(row: Record) -> Run:
    return Run(**{name: row[name] for name in Run.__slots__})
