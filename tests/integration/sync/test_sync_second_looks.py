"""A notification may come before every replica of the provider shows what it tells of: a second look, and a third."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.mercadopago.errors import Timeout
from service.sync.apply import Look, Outcome, apply_looks
from service.sync.claims import claim_one, mark_order_due
from service.sync.settle import failure_of
from tests.support.deliveries import delivery
from tests.support.looking import look, see
from tests.support.orders import order_id, paid_order, refunded_order

MINUTE, TEN_MINUTES = timedelta(minutes=1), timedelta(minutes=10)
TODAY = datetime.now(UTC)


def paid_long_ago(days: int = 91, **fields: Any) -> dict[str, Any]:
    then = (TODAY - timedelta(days=days)).isoformat()
    return paid_order(1, created_date=then, last_updated_date=then, **fields)


async def notify(database: Database, *, verified: bool = True, times: int = 1) -> None:
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    for _ in range(times):
        await recorder.record(delivery(order_id(1), verified=verified))
    await recorder.close()


async def answered(database: Database, body: dict[str, Any]) -> Outcome:
    """The next look, whenever it is due, answered with `body`."""
    claimed = await claim_one(database, order_id(1), lease_seconds=30)
    assert claimed is not None
    [outcome] = await apply_looks(database, [look(claimed, body)])
    return outcome


async def after_the_mark(database: Database) -> timedelta | None:
    """How long after the mark the next look is due; None where nothing is owed to a mark."""
    wait: timedelta | None = await database.fetchval("select due_at - marked_at from cuadre.sync")
    return wait


async def goes_by(database: Database, time: timedelta) -> None:
    await database.execute("update cuadre.sync set marked_at = marked_at - $1::interval", time)


@pytest.mark.parametrize("days", [8, 91, 181])
async def test_an_answer_that_shows_no_change_is_looked_at_again_soon(database: Database, days: int) -> None:
    """The paid table alone would look again in 21, 94 or 194 days."""
    before = paid_long_ago(days)
    await see(database, before)
    await notify(database)
    assert (await answered(database, before)).settlement.outcome == "unchanged"
    assert await after_the_mark(database) == MINUTE
    assert await database.fetchval("select not asked from cuadre.sync"), "it is the schedule's"

    await goes_by(database, MINUTE)
    refunded = refunded_order(1, "30.00", seconds=0, last_updated_date=datetime.now(UTC).isoformat())
    assert (await answered(database, refunded)).settlement.outcome == "applied"
    assert await after_the_mark(database) is None


async def test_a_mark_is_owed_two_more_looks_at_most(database: Database) -> None:
    before = paid_long_ago()
    await see(database, before)
    await notify(database, times=3)
    waits = []
    for went_by in (timedelta(0), MINUTE, TEN_MINUTES - MINUTE):
        await goes_by(database, went_by)
        await answered(database, before)
        waits.append(await after_the_mark(database))
    assert waits == [MINUTE, TEN_MINUTES, None]
    assert await database.fetchval("select due_at > now() + interval '80 days' from cuadre.sync")


async def test_a_mark_during_a_look_that_shows_a_change_is_owed_its_own(database: Database) -> None:
    await notify(database)
    held = await claim_one(database, order_id(1), lease_seconds=30)
    assert held is not None
    await notify(database)
    await apply_looks(database, [look(held, paid_long_ago())])
    await answered(database, paid_long_ago())
    assert await after_the_mark(database) == MINUTE
    await goes_by(database, MINUTE)
    await answered(database, paid_long_ago())
    assert await after_the_mark(database) == TEN_MINUTES


async def test_an_answer_dated_before_what_is_stored_counts_as_little(database: Database) -> None:
    await see(database, paid_long_ago(91))
    await notify(database)
    assert (await answered(database, paid_long_ago(92))).settlement.outcome == "older"
    await goes_by(database, MINUTE)
    await answered(database, paid_long_ago(91))
    assert await after_the_mark(database) == TEN_MINUTES


async def test_a_failed_look_forgets_no_second_look(database: Database) -> None:
    await see(database, paid_long_ago())
    await notify(database)
    await answered(database, paid_long_ago())
    marked = await database.fetchval("select marked_at from cuadre.sync")
    await fails(database)
    assert await database.fetchval("select marked_at from cuadre.sync") == marked
    await answered(database, paid_long_ago())
    assert await after_the_mark(database) == MINUTE


async def fails(database: Database) -> None:
    claimed = await claim_one(database, order_id(1), lease_seconds=30)
    assert claimed is not None
    await apply_looks(database, [Look(claimed, failure=failure_of(Timeout("no answer")))])


@pytest.mark.parametrize("seen", [["first sight"], ["first sight", "change"]])
async def test_a_change_that_is_seen_costs_nothing_more(database: Database, seen: Sequence[str]) -> None:
    for description in seen:
        await notify(database)
        await answered(database, paid_long_ago(description=description))
    await answered(database, paid_long_ago(description=seen[-1]))
    assert await after_the_mark(database) is None
    assert await database.fetchval("select due_at > now() + interval '80 days' from cuadre.sync")


async def test_an_operator_who_wants_to_be_sure_costs_nothing_more(database: Database) -> None:
    await see(database, paid_long_ago())
    await mark_order_due(database, order_id(1), "default")
    for _ in range(2):
        await answered(database, paid_long_ago())
        assert await after_the_mark(database) is None
        assert await database.fetchval("select due_at > now() + interval '80 days' from cuadre.sync")


async def test_an_unverified_notification_is_answered_like_a_verified_one(database: Database) -> None:
    """Where a merchant's notifications come unsigned, nothing else tells of a refund."""
    await see(database, paid_long_ago())
    await notify(database, verified=False)
    await answered(database, paid_long_ago())
    assert await after_the_mark(database) == MINUTE
