"""What comparisons export: drift until it is gone, and when all was last compared."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from service.audit.nightly import refresh_gauges
from service.audit.runs import Wish
from service.database.pool import Database
from service.telemetry import metrics
from tests.integration.audit.verify_support import Books, provider_books, store, verify
from tests.support.orders import order_id, paid_order

NIGHTLY = Wish("nightly", sample=5)


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with provider_books() as served:
        yield served


async def drifted(database: Database) -> float:
    await refresh_gauges(database)
    return float(metrics.verify_drifted_orders._value.get())


async def stored_with_drift(database: Database, books: Books, *changed: int) -> None:
    bodies = [paid_order(number) for number in range(30)]
    books.put(*bodies)
    await store(database, bodies)
    await change(database, *changed)


async def change(database: Database, *numbers: int) -> None:
    await database.execute(
        "update cuadre.orders set total_amount = 1 where order_id = any($1::text[])", [*map(order_id, numbers)]
    )


async def test_drift_that_a_later_sample_did_not_draw_still_stands(database: Database, books: Books) -> None:
    await stored_with_drift(database, books, 25)
    assert (await verify(database, books)).run.drifted == 1
    assert await drifted(database) == 1
    for _ in range(50):
        if not (await verify(database, books, Wish("sample", sample=3))).found:
            break
    else:
        pytest.fail("no sample without the order was drawn")
    assert await drifted(database) == 1


async def test_the_nightly_one_looks_again_at_what_differed_and_ends_the_drift(
    database: Database, books: Books
) -> None:
    await stored_with_drift(database, books, 25, 26)
    await verify(database, books)
    again = await verify(database, books, NIGHTLY)
    assert (again.run.checked, again.ids) == (5, [order_id(25), order_id(26)])
    assert await drifted(database) == 2
    await database.execute("update cuadre.orders set total_amount = 100 where order_id = $1", order_id(25))
    assert (await verify(database, books, NIGHTLY)).ids == [order_id(26)]
    assert await drifted(database) == 1
    # A repair ends the rest, and what is changed anew is found anew.
    assert (await verify(database, books, Wish("full", repair=True))).run.repaired == 1
    assert await drifted(database) == 0
    await change(database, 25)
    await verify(database, books)
    assert await drifted(database) == 1


async def test_that_an_order_is_equal_again_is_no_finding(database: Database, books: Books) -> None:
    await stored_with_drift(database, books, 25)
    await verify(database, books)
    await database.execute("update cuadre.orders set total_amount = 100 where order_id = $1", order_id(25))
    clean = await verify(database, books)
    assert (clean.run.equal, clean.run.drifted, clean.found) == (30, 0, [])
    assert await drifted(database) == 0


async def test_an_order_that_is_not_answered_for_is_not_equal_again(database: Database, books: Books) -> None:
    await stored_with_drift(database, books, 25)
    await verify(database, books)
    books.mishap = lambda asked, _nth: web.Response(status=400) if asked == order_id(25) else None
    result = await verify(database, books)
    assert (result.run.drifted, result.run.unanswered) == (0, 1)
    assert await drifted(database) == 1


async def test_drift_of_long_ago_is_forgotten(database: Database, books: Books) -> None:
    await stored_with_drift(database, books, 25)
    await verify(database, books)
    await database.execute("update cuadre.verifications set moved_at = now() - interval '31 days'")
    assert await drifted(database) == 0


@pytest.mark.parametrize(
    "wish",
    [
        Wish("sample", sample=1),
        Wish("full", account="default"),
        Wish("since", since=datetime.now(UTC) - timedelta(days=1)),
    ],
)
async def test_what_compares_a_part_is_no_finished_comparison(database: Database, books: Books, wish: Wish) -> None:
    await stored_with_drift(database, books)
    await verify(database, books, wish)
    finished = metrics.verify_finished_timestamp_seconds._value
    await refresh_gauges(database)
    assert finished.get() == 0
    run = (await verify(database, books, NIGHTLY)).run
    await refresh_gauges(database)
    assert run.finished_at is not None
    assert finished.get() == pytest.approx(run.finished_at.timestamp(), abs=1e-3)


async def test_a_repair_that_was_interrupted_and_is_answered_no_more_counts_each_order_once(
    database: Database, books: Books
) -> None:
    await stored_with_drift(database, books, 3)

    class Interrupted(Exception):  # noqa: N818 - what happens to the run, not a fault
        pass

    books.mishap = lambda asked, nth: web.Response(status=400) if asked == order_id(3) and nth > 1 else None
    with pytest.MonkeyPatch.context() as patched:

        async def end(*_: object, **__: object) -> None:
            raise Interrupted

        patched.setattr("service.audit.verify.commit_page", end)
        with pytest.raises(Interrupted):
            await verify(database, books, Wish("full", repair=True))
    result = await verify(database, books, Wish("full", repair=True))
    run = result.run
    assert (run.verification_id, run.checked, run.equal, run.drifted, run.unanswered) == (1, 30, 29, 1, 0)
    assert [(one.order_id, one.kind) for one in result.found] == [(order_id(3), "drift")]
