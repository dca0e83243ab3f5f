"""Orders that the provider shows no more, payments that cannot be asked for, and rows that are gone here."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from service.audit.runs import Wish
from service.database.pool import Database
from tests.integration.audit.verify_support import Books, everything_stored, provider_books, rich_order, store, verify
from tests.support.orders import order, order_id, paid_order, payment
from tests.support.provider import not_found


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with provider_books() as served:
        yield served


def days_ago(days: int) -> dict[str, Any]:
    moment = (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")
    return {"created_date": moment, "last_updated_date": moment}


async def stored(database: Database, books: Books, *bodies: dict[str, Any]) -> None:
    books.put(*bodies)
    await store(database, bodies)


@pytest.mark.parametrize("repair", [False, True])
async def test_a_stored_order_that_is_not_shown_is_drift_that_stays(
    database: Database, books: Books, repair: bool
) -> None:
    await stored(database, books, paid_order(1, **days_ago(80)), paid_order(2, **days_ago(80)))
    del books.orders[order_id(1)]
    before = await everything_stored(database)
    sync = await database.fetch("select * from cuadre.sync order by order_id")
    result = await verify(database, books, Wish("full", repair=repair))
    run = result.run
    assert (run.equal, run.drifted, run.repaired, run.unanswered, run.unprovable) == (1, 1, 0, 0, 0)
    [gone] = result.found
    [drift] = gone.drifts
    assert (gone.order_id, gone.kind, gone.repaired_at) == (order_id(1), "drift", None)
    assert (drift.field, drift.stored, drift.provider) == ("order", "stored", "not shown by the provider")
    assert await everything_stored(database) == before
    assert await database.fetch("select * from cuadre.sync order by order_id") == sync


async def test_a_replica_of_the_provider_that_does_not_know_an_order_yet_is_no_drift(
    database: Database, books: Books
) -> None:
    await stored(database, books, paid_order(1, **days_ago(1)))
    books.mishap = lambda _asked, nth: not_found() if nth == 1 else None
    assert (await verify(database, books)).run.equal == 1


async def test_an_old_order_without_money_is_counted_apart(database: Database, books: Books) -> None:
    old = days_ago(100)
    rejected = [payment(3, status="failed", amount="100.00")]
    canceled = order(1, status="canceled", status_detail="canceled", **old)
    failed = order(3, status="failed", status_detail="failed", payments=rejected, **old)
    await stored(database, books, canceled, paid_order(2, **old), failed)
    books.orders.clear()
    result = await verify(database, books)
    run = result.run
    assert (run.checked, run.equal, run.drifted, run.unanswered, run.unprovable) == (3, 0, 0, 1, 2)
    assert {one.order_id: one.kind for one in result.found} == {
        order_id(1): "unprovable",
        order_id(2): "unanswered",
        order_id(3): "unprovable",
    }
    # Its own rows are held against its payload all the same.
    await database.execute("update cuadre.orders set total_amount = 1 where order_id = $1", order_id(1))
    assert (await verify(database, books)).fields[order_id(1)] == ["total_amount"]


async def test_an_old_order_that_is_not_answered_for_is_not_counted_apart(database: Database, books: Books) -> None:
    await stored(database, books, order(1, status="canceled", status_detail="canceled", **days_ago(100)))
    books.mishap = lambda _asked, _nth: web.Response(status=400)
    run = (await verify(database, books)).run
    assert (run.unanswered, run.unprovable) == (1, 0)


def told(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "status": "approved", "transaction_amount": 50, "transaction_amount_refunded": 0, **fields
    }  # fmt: skip


@pytest.mark.parametrize("second", [None, "9000000001"])
async def test_a_paid_payment_that_was_not_asked_for_proves_nothing(
    database: Database, books: Books, second: str | None
) -> None:
    paid = {"status": "processed", "amount": "50.00", "paid_amount": "50.00"}
    other = paid if second is None else paid | {"reference_id": second}
    two = [payment(1, reference_id="9000000001", **paid), payment(2, **other)]
    body = order(1, payments=two, status="processed", status_detail="accredited", **days_ago(100))
    await stored(database, books, body)
    books.orders.clear()
    books.payments = {"9000000001": told(9000000001)}
    result = await verify(database, books)
    assert (result.run.equal, result.run.unanswered) == (0, 1)
    assert (result.found[0].drifts[0].provider or "").endswith("has a reference_id of its own to ask for")
    # What was asked may still tell of a difference.
    books.payments = {"9000000001": told(9000000001, status="refunded")}
    assert (await verify(database, books)).run.drifted == 1


async def test_a_look_that_was_lost_is_found_and_marked_due(database: Database, books: Books) -> None:
    bodies = [rich_order(number, **days_ago(1)) for number in range(4)]
    await stored(database, books, *bodies)
    await database.execute("delete from cuadre.sync where order_id = $1", order_id(1))
    await database.execute("update cuadre.sync set due_at = null where order_id = $1", order_id(2))
    await database.execute(
        "update cuadre.sync set due_at = null, quarantined_at = now(), quarantine_reason = 'unreadable' "
        "where order_id = $1",
        order_id(3),
    )
    lost = {order_id(1): ["sync.due_at"], order_id(2): ["sync.due_at"]}
    found = await verify(database, books)
    assert (found.fields, found.run.equal) == (lost, 2)
    assert {one.kind for one in found.found} == {"drift"}
    mended = await verify(database, books, Wish("full", repair=True))
    assert (mended.fields, mended.run.repaired) == (lost, 2)
    due = await database.fetch("select order_id from cuadre.sync where due_at <= now() order by order_id")
    assert [row["order_id"] for row in due] == [order_id(1), order_id(2)]
    # Nothing of the orders themselves was wrong, so none has a new version.
    assert await database.fetchval("select max(version) from cuadre.orders") == 1
    assert (await verify(database, books)).found == []


async def test_an_order_that_is_owed_no_look_is_equal(database: Database, books: Books) -> None:
    closed = order(1, status="canceled", status_detail="canceled", **days_ago(20))
    await stored(database, books, closed)
    await database.execute("update cuadre.orders set changed_at = now() - interval '20 days'")
    await database.execute("update cuadre.sync set due_at = null")
    assert (await verify(database, books)).run.equal == 1
