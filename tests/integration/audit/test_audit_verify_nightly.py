"""The nightly comparison: once a day, by one process, kept, exported, and shown by the API."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.audit.nightly import NightlyVerification, is_due, refresh_gauges
from service.audit.runs import Wish, begin
from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.mercadopago.client import MercadoPagoClient
from service.telemetry import metrics
from service.web.parameters import NoParameters, parse_query
from service.web.state import STATE, InternalState
from service.web.verifications import VerificationsParameters, list_verifications, show_verification
from tests.integration.audit.verify_support import (
    ACCOUNT,
    Books,
    provider_books,
    rich_order,
    store,
    tamper,
    verify,
)
from tests.support.deliveries import delivery
from tests.support.orders import order_id, paid_order


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with provider_books() as served:
        yield served


def night(hour: int, *, day: int = 2) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        (night(7, day=1), night(7), True),
        (night(7, day=1), night(5), False),
        (night(7, day=1), night(6), True),
        (night(12, day=1), night(7), False),
        (night(12, day=1), night(14), False),
        (night(12, day=1), night(15), True),
        (night(6), night(8), False),
    ],
)
def test_it_is_due_at_night_and_at_all_events_in_the_end(last: datetime, now: datetime, expected: bool) -> None:
    assert is_due(last, now) is expected


def loop(database: Database, client: MercadoPagoClient, holder: str, sample: int = 5) -> NightlyVerification:
    return NightlyVerification(database, client, holder, accounts=lambda: [ACCOUNT], sample=sample)


async def long_ago(database: Database) -> None:
    await database.execute("update cuadre.schema_migrations set applied_at = now() - interval '2 days'")


async def test_once_a_day_by_one_process(database: Database, books: Books) -> None:
    bodies = [paid_order(number) for number in range(8)]
    books.put(*bodies)
    await store(database, bodies)
    async with MercadoPagoClient(books.url) as client:
        first, second = loop(database, client, "one"), loop(database, client, "two")
        assert await first.round() == []  # this database is of today
        await long_ago(database)
        assert await second.round() == []  # the other one leads
        [run] = await first.round()
        assert (run.kind, run.account, run.checked, run.equal, run.repair) == ("nightly", "default", 5, 5, False)
        assert await first.round() == []
        await first.resign()
        assert await second.round() == []
        await database.execute("update cuadre.verifications set started_at = started_at - interval '2 days'")
        assert len(await second.round()) == 1
        await database.execute("update cuadre.verifications set started_at = started_at - interval '2 days'")
        assert await loop(database, client, "two", sample=0).round() == []


async def test_one_that_was_broken_off_is_gone_on_with(database: Database, books: Books) -> None:
    bodies = [paid_order(number) for number in range(8)]
    books.put(*bodies)
    await store(database, bodies)
    await long_ago(database)
    begun = (await begin(database, Wish("nightly", "default", sample=5))).verification_id
    async with MercadoPagoClient(books.url) as client:
        [run] = await loop(database, client, "one").round()
    assert run.verification_id == begun


async def test_it_repairs_nothing_and_the_gauges_show_what_it_found(database: Database, books: Books) -> None:
    await refresh_gauges(database)
    assert metrics.verify_finished_timestamp_seconds._value.get() == 0
    bodies = [rich_order(number) for number in range(5)]
    books.put(*bodies)
    await store(database, bodies)
    await tamper(database, [1, 2])
    await long_ago(database)
    async with MercadoPagoClient(books.url) as client:
        [run] = await loop(database, client, "one").round()
    assert run.finished_at is not None
    assert (run.drifted, run.repaired) == (2, 0)
    await refresh_gauges(database)
    assert metrics.verify_drifted_orders._value.get() == 2
    assert metrics.verify_finished_timestamp_seconds._value.get() == pytest.approx(run.finished_at.timestamp(), abs=1)
    await verify(database, books, Wish("full", repair=True))
    await refresh_gauges(database)
    assert metrics.verify_drifted_orders._value.get() == 0


async def test_the_share_of_unverified_notifications_by_account(database: Database) -> None:
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    for number in range(4):
        await recorder.record(delivery(order_id(number), verified=number > 0))
        await recorder.record(delivery(order_id(number), verified=False, account="second"))
    await recorder.close()
    await database.execute(
        "update cuadre.notifications set received_at = received_at - interval '2 hours' where order_id = $1",
        order_id(3),
    )
    await refresh_gauges(database)
    shares = {
        sample.labels["account"]: sample.value
        for metric in metrics.unverified_share.collect()
        for sample in metric.samples
    }
    assert shares == {"default": pytest.approx(1 / 3), "second": 1.0}
    await database.execute("update cuadre.notifications set received_at = received_at - interval '2 hours'")
    await refresh_gauges(database)
    assert not [sample for metric in metrics.unverified_share.collect() for sample in metric.samples]


class _State:
    """As much of the internal application's state as these handlers use."""

    def __init__(self, database: Database) -> None:
        self.database = database


async def test_the_api_lists_comparisons_and_shows_what_one_found(database: Database, books: Books) -> None:
    bodies = [rich_order(number) for number in range(3)]
    books.put(*bodies)
    await store(database, bodies)
    await verify(database, books)
    await tamper(database, [1])
    books.mishap = lambda asked, _nth: web.Response(status=400) if asked == order_id(2) else None
    await verify(database, books, Wish("full", repair=True))

    async def listed(request: web.Request) -> web.Response:
        return await list_verifications(request, parse_query(VerificationsParameters, request.query))

    async def shown(request: web.Request) -> web.Response:
        return await show_verification(request, NoParameters())

    app = web.Application()
    app[STATE] = cast("InternalState", _State(database))
    app.router.add_get("/v", listed)
    app.router.add_get("/v/{id}", shown)
    async with TestClient(TestServer(app)) as client:
        first = await (await client.get("/v", params={"limit": "1"})).json()
        rest = await (await client.get("/v", params={"cursor": first["next_cursor"]})).json()
        assert [one["verification_id"] for one in first["data"] + rest["data"]] == [2, 1]
        assert rest["next_cursor"] is None
        none = await (await client.get("/v", params={"kind": "nightly"})).json()
        assert none == {"data": [], "next_cursor": None}
        detail = await (await client.get("/v/2")).json()
    assert (detail["checked"], detail["equal"], detail["drifted"], detail["repaired"]) == (3, 1, 1, 1)
    repaired, silent = detail["orders"]
    assert (repaired["order_id"], repaired["kind"], repaired["reason"]) == (order_id(1), "drift", None)
    assert repaired["repaired_at"] is not None
    assert repaired["fields"] == [{"field": "user_id", "stored": "1", "provider": "2100457788"}]
    assert (silent["kind"], silent["fields"]) == ("unanswered", [])
    assert silent["reason"].startswith("bad_request")
    assert detail["unprovable"] == 0
    assert detail["truncated"] is False
    assert timedelta(0) < datetime.now(UTC) - datetime.fromisoformat(detail["started_at"])
