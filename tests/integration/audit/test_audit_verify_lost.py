"""Orders that were stored and whose row is gone: found in every scope, and brought back as if it had never been."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from service.audit.nightly import NightlyVerification, refresh_gauges
from service.audit.runs import Wish
from service.database.pool import Database
from service.mercadopago.client import MercadoPagoClient
from service.sync.claims import mark_order_due
from service.telemetry import metrics
from tests.integration.audit.verify_support import (
    ACCOUNT,
    Books,
    everything_stored,
    provider_books,
    rich_order,
    store,
    varied_order,
    verify,
)
from tests.support.looking import open_discrepancies, see
from tests.support.orders import START, order, order_id, paid_order, refunded_order

KEEPING = replace(ACCOUNT, keep_payer=True)
REPAIR = Wish("full", repair=True)


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with provider_books() as served:
        yield served


async def stored(database: Database, books: Books, *bodies: dict[str, Any], account: str = "default") -> None:
    books.put(*bodies)
    await store(database, bodies, account=account)


async def lose(database: Database, *numbers: int, also: tuple[str, ...] = ()) -> None:
    for table in ("orders", *also):
        await database.execute(
            f"delete from cuadre.{table} where order_id = any($1::text[])", [order_id(number) for number in numbers]
        )


async def versions(database: Database, number: int) -> list[tuple[int, str]]:
    rows = await database.fetch(
        "select version, cause from cuadre.order_versions where order_id = $1 order by version", order_id(number)
    )
    return [(row["version"], row["cause"]) for row in rows]


@pytest.mark.parametrize(
    "also",
    [(), ("sync",), ("order_versions",), ("payments", "refunds", "chargebacks", "cash_outs")],
    ids=["row", "row and look", "row and versions", "row and parts"],
)
async def test_a_lost_order_is_drift_and_is_brought_back(
    database: Database, books: Books, also: tuple[str, ...]
) -> None:
    await stored(database, books, *(rich_order(number) for number in range(6)))
    before, open_before = await everything_stored(database), await open_discrepancies(database)
    await lose(database, 0, 3, 5, also=also)
    found = await verify(database, books)
    run = found.run
    assert (run.checked, run.equal, run.drifted, run.unanswered) == (6, 3, 3, 0)
    assert found.ids == [order_id(0), order_id(3), order_id(5)]
    for one in found.found:
        [drift] = one.drifts
        assert (one.kind, one.account) == ("drift", "default")
        assert (drift.field, drift.stored, drift.provider) == ("order", None, "processed 100.00")

    mended = await verify(database, books, REPAIR, accounts=[KEEPING])
    assert mended.verification.remarks.unrepaired == {}
    assert (mended.run.drifted, mended.run.repaired) == (3, 3)
    if "order_versions" not in also:
        after = await everything_stored(database)
        # Every column, the payer and the first sight among them.
        assert after == before
        assert await versions(database, 3) == [(1, "notification"), (2, "repair")]
    assert await database.fetchval("select version from cuadre.orders where order_id = $1", order_id(3)) == 2
    assert await open_discrepancies(database) == open_before
    again = await verify(database, books)
    assert (again.run.equal, again.found) == (6, [])
    owed = await database.fetch("select 1 from cuadre.sync where leased_until is not null or due_at is null")
    assert owed == []


async def test_what_the_rules_remember_comes_back_with_the_order(database: Database, books: Books) -> None:
    # Paid after it was closed: a discrepancy that only the versions can tell of, and that is open still.
    await see(database, order(1, status="canceled", status_detail="canceled"))
    await see(database, paid_order(1, seconds=60))
    books.put(paid_order(1, seconds=60))
    history = await database.fetchval("select history from cuadre.orders")
    open_before = await open_discrepancies(database)
    assert {rule for _, rule, _ in open_before} == {"paid_after_close"}
    await lose(database, 1)
    assert (await verify(database, books, REPAIR)).run.repaired == 1
    assert await open_discrepancies(database) == open_before
    assert await database.fetchval("select count(*) from cuadre.discrepancies") == 1
    assert await database.fetchval("select history from cuadre.orders") == history
    assert [version for version, _ in await versions(database, 1)] == [1, 2, 3]
    events = await database.fetch("select version from cuadre.events where type = 'order.changed' order by event_id")
    assert [row["version"] for row in events] == [1, 2, 3]


async def test_an_order_that_was_never_stored_is_no_drift(database: Database, books: Books) -> None:
    await stored(database, books, paid_order(1))
    # Told of and waiting; and three that a look did not bring.
    for number in range(2, 6):
        await mark_order_due(database, order_id(number), "default")
    await database.execute(
        "update cuadre.sync set due_at = null, quarantined_at = now(), quarantine_reason = 'not_found' "
        "where order_id = $1",
        order_id(3),
    )
    await database.execute(
        "update cuadre.sync set last_error = 'not_found: 404', attempts = 3 where order_id = $1", order_id(4)
    )
    await database.execute("update cuadre.sync set trust = 0 where order_id = $1", order_id(5))
    books.put(*(paid_order(number) for number in range(2, 6)))
    for wish in (Wish("full"), Wish("sample", sample=10), Wish("nightly", "default", sample=10)):
        result = await verify(database, books, wish)
        assert (result.run.to_check, result.run.checked, result.found) == (1, 1, [])
    assert set(books.calls) == {order_id(1)}


@pytest.mark.parametrize("repair", [False, True])
async def test_a_lost_order_that_is_not_shown_stays_drift_and_one_that_is_not_answered_for_is_told(
    database: Database, books: Books, repair: bool
) -> None:
    await stored(database, books, *(paid_order(number) for number in range(3)))
    await lose(database, 1, 2)
    del books.orders[order_id(1)]
    books.mishap = lambda asked, _nth: web.Response(status=400) if asked == order_id(2) else None
    result = await verify(database, books, Wish("full", repair=repair))
    run = result.run
    assert (run.equal, run.drifted, run.repaired, run.unanswered) == (1, 1, 0, 1)
    gone, silent = result.found
    assert [(one.stored, one.provider) for one in gone.drifts] == [(None, "not shown by the provider")]
    assert silent.kind == "unanswered"
    assert await database.fetchval("select count(*) from cuadre.orders") == 1


async def test_an_answer_that_is_older_than_the_last_version_brings_nothing_back(
    database: Database, books: Books
) -> None:
    await stored(database, books, refunded_order(1, "30.00", seconds=120))
    await lose(database, 1)
    books.put(paid_order(1, seconds=60))
    result = await verify(database, books, REPAIR)
    assert (result.run.drifted, result.run.repaired) == (1, 0)
    assert "older state" in result.verification.remarks.unrepaired[order_id(1)]
    assert await database.fetchval("select count(*) from cuadre.orders") == 0


async def test_a_last_version_of_a_date_that_cannot_be_true_keeps_no_repair_out(
    database: Database, books: Books
) -> None:
    await stored(database, books, refunded_order(1, "30.00", last_updated_date="2099-01-01T00:00:00.000Z"))
    await lose(database, 1)
    books.put(refunded_order(1, "30.00", seconds=180))
    result = await verify(database, books, REPAIR)
    assert (result.run.drifted, result.run.repaired) == (1, 1)
    row = await database.fetchrow("select refunded_amount::text as refunded, updated_at from cuadre.orders")
    assert row is not None
    assert (row["refunded"], row["updated_at"].year) == ("30.00", START.year)
    assert (await verify(database, books)).run.equal == 1


async def test_the_scopes_hold_for_lost_orders_too(database: Database, books: Books) -> None:
    south = replace(ACCOUNT, name="south")
    await stored(database, books, *(paid_order(number) for number in range(4)))
    await stored(database, books, *(paid_order(number) for number in range(4, 6)), account="south")
    week = "now() - interval '7 days'"
    await database.execute(f"update cuadre.sync set claimed_at = {week} where order_id = $1", order_id(1))
    await database.execute(
        f"update cuadre.order_versions set observed_at = {week}, updated_at = {week} where order_id = $1", order_id(1)
    )
    await lose(database, 1, 2, 5)
    since = Wish("since", since=datetime.now(UTC) - timedelta(days=1))
    both = [ACCOUNT, south]
    for wish, lost, to_check in (
        (since, [2, 5], 5),
        (Wish("full", account="default"), [1, 2], 4),
        (Wish("full", account="south"), [5], 2),
        (Wish("sample", sample=100), [1, 2, 5], 6),
        (Wish("sample", account="south", sample=100), [5], 2),
        (replace(since, account="default"), [2], 3),
    ):
        result = await verify(database, books, wish, accounts=both)
        assert result.ids == [order_id(number) for number in lost]
        assert (result.run.to_check, result.run.checked) == (to_check, to_check)


class Interrupted(Exception):  # noqa: N818 - what happens to the run, not a fault
    pass


async def test_an_interrupted_run_goes_on_past_lost_orders(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.audit.verify.STRETCH", 3)
    await stored(database, books, *(paid_order(number) for number in range(40)))
    # More of them than a page in a row, the first and the last of all among them.
    lost = [0, *range(10, 24), 39]
    await lose(database, *lost)

    def interrupt(_number: int) -> None:
        raise Interrupted

    for _ in range(3):
        with pytest.raises(Interrupted):
            await verify(database, books, page=5, on_checked=interrupt)
    result = await verify(database, books, page=5)
    assert (result.run.verification_id, result.run.checked, result.run.equal, result.run.drifted) == (1, 40, 24, 16)
    assert result.ids == [order_id(number) for number in lost]


async def test_all_that_was_stored_may_be_lost(database: Database, books: Books) -> None:
    await stored(database, books, *(varied_order(number) for number in range(30)))
    before = await everything_stored(database)
    await database.execute("truncate cuadre.orders, cuadre.payments, cuadre.refunds, cuadre.chargebacks")
    found = await verify(database, books, page=7)
    assert (found.run.to_check, found.run.checked, found.run.drifted) == (30, 30, 30)
    mended = await verify(database, books, REPAIR, accounts=[KEEPING], page=7)
    assert (mended.run.drifted, mended.run.repaired) == (30, 30)
    assert await everything_stored(database) == before


async def test_the_nightly_one_finds_them_and_the_gauge_shows_them_until_they_are_back(
    database: Database, books: Books
) -> None:
    await stored(database, books, *(paid_order(number) for number in range(3)))
    await lose(database, 0, 1, 2)
    await database.execute("update cuadre.schema_migrations set applied_at = now() - interval '2 days'")
    async with MercadoPagoClient(books.url) as client:
        [run] = await NightlyVerification(database, client, "one", accounts=lambda: [ACCOUNT], sample=5).round()
    assert (run.checked, run.drifted) == (3, 3)
    await refresh_gauges(database)
    assert metrics.verify_drifted_orders._value.get() == 3
    await verify(database, books, REPAIR)
    await refresh_gauges(database)
    assert metrics.verify_drifted_orders._value.get() == 0


async def test_a_payer_that_may_have_been_erased_does_not_come_back(database: Database, books: Books) -> None:
    await stored(database, books, rich_order(1), rich_order(2))
    await database.execute(
        "update cuadre.order_versions set payload = payload - 'payer' where order_id = $1", order_id(1)
    )
    await lose(database, 1, 2)
    assert (await verify(database, books, REPAIR, accounts=[KEEPING])).run.repaired == 2
    rows = await database.fetch("select order_id, payload ? 'payer' as named from cuadre.orders order by order_id")
    assert [tuple(row) for row in rows] == [(order_id(1), False), (order_id(2), True)]
