"""Comparisons of accounts whose calls are refused: a refusal among answers is waited out, and none counts as proof."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from service.audit.fresh import ProviderAway
from service.audit.nightly import NightlyVerification, refresh_gauges
from service.audit.runs import Wish
from service.database.pool import Database
from service.mercadopago import pacing
from service.mercadopago.client import MercadoPagoClient
from service.telemetry import metrics
from tests.integration.audit.verify_support import ACCOUNT, Books, provider_books, store, verify
from tests.support.orders import order_id, paid_order

SOUTH = replace(ACCOUNT, name="south", access_token="APP_USR-another-token")


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with provider_books() as served:
        yield served


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused account's gate has its probes soon, or these tests would take minutes."""
    monkeypatch.setitem(pacing._STEPS, "refused", (0.02, 0.05))


def refused() -> web.Response:
    return web.json_response({"message": "At least one policy returned UNAUTHORIZED."}, status=403)


async def stored(database: Database, books: Books, count: int) -> None:
    bodies = [paid_order(number) for number in range(count)]
    books.put(*bodies)
    await store(database, bodies)


@pytest.mark.parametrize("at_once", [1, 16])
async def test_one_refused_call_ends_nothing(database: Database, books: Books, at_once: int) -> None:
    await stored(database, books, 60)
    await database.execute("update cuadre.orders set total_amount = 1 where order_id = $1", order_id(50))
    books.mishap = lambda asked, nth: refused() if asked == order_id(20) and nth == 1 else None
    result = await verify(database, books, at_once=at_once)
    assert (result.run.equal, result.run.drifted, result.run.unanswered) == (59, 1, 0)
    assert result.run.finished_at is not None
    assert result.ids == [order_id(50)]


@pytest.mark.parametrize("at_once", [1, 16])
async def test_an_order_that_is_always_refused_is_not_answered_for_and_the_others_are(
    database: Database, books: Books, at_once: int
) -> None:
    await stored(database, books, 60)
    books.mishap = lambda asked, _nth: refused() if asked == order_id(20) else None
    result = await verify(database, books, at_once=at_once)
    assert (result.run.equal, result.run.unanswered) == (59, 1)
    assert [(one.order_id, one.kind) for one in result.found] == [(order_id(20), "unanswered")]
    assert (result.found[0].drifts[0].provider or "").endswith("UNAUTHORIZED.")


@pytest.mark.parametrize("wish", [Wish("full"), Wish("sample", sample=60)])
async def test_a_token_that_is_refused_from_some_order_on_leaves_the_run_open(
    database: Database, books: Books, wish: Wish
) -> None:
    await stored(database, books, 60)
    allowed = 25
    books.mishap = lambda _asked, _nth: refused() if sum(books.calls.values()) > allowed else None
    with pytest.raises(ProviderAway, match=r"default was refused.*the same command goes on"):
        await verify(database, books, wish, at_once=4, page=10, patience_seconds=0.2)
    row = await database.fetchrow("select checked, equal, unanswered, finished_at from cuadre.verifications")
    assert row is not None
    assert tuple(row) == (20, 20, 0, None)
    books.mishap = lambda _asked, _nth: None
    result = await verify(database, books, wish, page=10)
    assert (result.run.verification_id, result.run.checked, result.run.equal) == (1, 60, 60)
    assert result.run.finished_at is not None


async def test_others_are_compared_and_what_is_found_counts_once(database: Database, books: Books) -> None:
    bodies = [paid_order(number) for number in range(40)]
    books.put(*bodies)
    await store(database, bodies[::2])
    await store(database, bodies[1::2], account="south")
    drifted = [order_id(4), order_id(30)]
    await database.execute("update cuadre.orders set total_amount = 1 where order_id = any($1::text[])", drifted)
    theirs = {body["id"] for body in bodies[1::2]}
    books.mishap = lambda asked, _nth: web.Response(status=401) if asked in theirs else None
    accounts = [ACCOUNT, SOUTH]
    for _ in range(2):
        with pytest.raises(ProviderAway, match="south was refused"):
            await verify(database, books, accounts=accounts, at_once=1, page=10)
    found = await database.fetch("select order_id from cuadre.drifts order by order_id")
    assert [row["order_id"] for row in found] == drifted
    books.mishap = lambda _asked, _nth: None
    result = await verify(database, books, accounts=accounts, page=10)
    assert (result.run.checked, result.run.equal, result.run.drifted, result.run.unanswered) == (40, 38, 2, 0)


async def test_a_nightly_one_with_a_refused_token_never_says_that_all_is_well(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pacing._STEPS, "refused", (30.0, 300.0))
    await stored(database, books, 20)
    await database.execute("update cuadre.schema_migrations set applied_at = now() - interval '2 days'")
    books.mishap = lambda _asked, _nth: web.Response(status=401)
    async with MercadoPagoClient(books.url) as client:
        nightly = NightlyVerification(database, client, "one", accounts=lambda: [ACCOUNT], sample=10)
        assert await nightly.round() == []
        asked = sum(books.calls.values())
        # Not every few minutes anew, but by and by.
        assert await nightly.round() == []
        assert sum(books.calls.values()) == asked
    row = await database.fetchrow("select checked, equal, finished_at, started_at from cuadre.verifications")
    assert row is not None
    assert (row["checked"], row["equal"], row["finished_at"]) == (0, 0, None)
    await refresh_gauges(database)
    # As old as the first that never finished, so that it is overdue one day.
    stamp = metrics.verify_finished_timestamp_seconds._value.get()
    assert stamp == pytest.approx(row["started_at"].timestamp(), abs=0.001)


async def test_a_comparison_that_was_hardly_answered_is_none(database: Database, books: Books) -> None:
    await stored(database, books, 10)
    finished = metrics.verify_finished_timestamp_seconds._value
    books.mishap = lambda asked, _nth: web.Response(status=400) if asked >= order_id(4) else None
    assert (await verify(database, books)).run.unanswered == 6
    await refresh_gauges(database)
    assert (finished.get(), metrics.verify_unanswered_orders._value.get()) == (0, 6)
    books.mishap = lambda asked, _nth: web.Response(status=400) if asked >= order_id(5) else None
    run = (await verify(database, books)).run
    await refresh_gauges(database)
    assert run.finished_at is not None
    assert finished.get() == pytest.approx(run.finished_at.timestamp(), abs=0.001)
    assert metrics.verify_unanswered_orders._value.get() == 5
