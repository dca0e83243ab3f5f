"""The nightly comparison of several accounts: each has a run of its own, and nobody waits for another's token."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from service.audit.nightly import NightlyVerification, refresh_gauges
from service.audit.runs import Wish
from service.audit.verify import Verification
from service.database.pool import Database
from service.mercadopago.client import MercadoPagoClient
from service.telemetry import metrics
from tests.integration.audit.verify_support import ACCOUNT, Books, provider_books, store, verify
from tests.support.orders import order_id, paid_order

SOUTH = replace(ACCOUNT, name="south", access_token="APP_USR-another-token")
NAMES = [ACCOUNT.name, SOUTH.name]


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    """Thirty orders of `default` and ten of `south`; this database is of the day before yesterday."""
    await database.execute("update cuadre.schema_migrations set applied_at = now() - interval '2 days'")
    async with provider_books() as served:
        bodies = [paid_order(number) for number in range(40)]
        served.put(*bodies)
        await store(database, bodies[:30])
        await store(database, bodies[30:], account="south")
        yield served


def is_of_default(asked: str) -> bool:
    return asked < order_id(30)


def nightly(database: Database, client: MercadoPagoClient, sample: int = 8) -> NightlyVerification:
    return NightlyVerification(database, client, "one", accounts=lambda: [ACCOUNT, SOUTH], sample=sample)


async def gauges(database: Database) -> tuple[Any, ...]:
    """When all was last compared, how many were not answered for, how many differ."""
    await refresh_gauges(database, NAMES)
    return (
        metrics.verify_finished_timestamp_seconds._value.get(),
        metrics.verify_unanswered_orders._value.get(),
        metrics.verify_drifted_orders._value.get(),
    )


async def age(database: Database, days: int) -> None:
    await database.execute(
        "update cuadre.verifications set started_at = started_at - make_interval(days => $1), "
        "finished_at = finished_at - make_interval(days => $1), moved_at = moved_at - make_interval(days => $1)",
        days,
    )


async def test_each_account_has_its_share_of_the_sample_and_a_run_of_its_own(database: Database, books: Books) -> None:
    async with MercadoPagoClient(books.url) as client:
        runs = await nightly(database, client).round()
        assert await nightly(database, client).round() == []
    assert [(run.account, run.kind, run.to_check, run.equal) for run in runs] == [
        ("default", "nightly", 6, 6),
        ("south", "nightly", 2, 2),
    ]
    assert sum(is_of_default(asked) for asked in books.calls) == 6


async def test_an_account_without_orders_has_nothing_to_compare_and_a_small_one_something(
    database: Database, books: Books
) -> None:
    async with MercadoPagoClient(books.url) as client:
        none = replace(ACCOUNT, name="none")
        loop = NightlyVerification(database, client, "one", accounts=lambda: [ACCOUNT, SOUTH, none], sample=1)
        runs = await loop.round()
    assert [(run.account, run.checked) for run in runs] == [("default", 1), ("south", 1), ("none", 0)]
    assert all(run.finished_at is not None for run in runs)


async def test_a_refused_account_leaves_only_its_own_run_unfinished(database: Database, books: Books) -> None:
    books.mishap = lambda asked, _nth: web.Response(status=401) if is_of_default(asked) else None
    await database.execute("update cuadre.orders set total_amount = 1 where account = 'south'")
    async with MercadoPagoClient(books.url) as client:
        loop = nightly(database, client)
        [south] = await loop.round()
        assert (south.account, south.checked, south.drifted) == ("south", 2, 2)
        # Not every few minutes anew, but by and by.
        asked = books.calls.total()
        assert await loop.round() == []
        assert books.calls.total() == asked
    open_still = await database.fetch("select account, checked from cuadre.verifications where finished_at is null")
    assert [tuple(row) for row in open_still] == [("default", 0)]
    # The gauge tells of the account that was not compared: as old as the first of its runs that never ended.
    begun = await database.fetchval("select started_at from cuadre.verifications where account = 'default'")
    assert await gauges(database) == (pytest.approx(begun.timestamp(), abs=0.001), 0, 2)


async def test_the_account_that_was_last_compared_longest_ago_is_told(database: Database, books: Books) -> None:
    async with MercadoPagoClient(books.url) as client:
        await nightly(database, client).round()
        await age(database, 5)
        books.mishap = lambda asked, _nth: web.Response(status=401 if is_of_default(asked) else 400)
        [south] = await nightly(database, client).round()
        assert south.unanswered == 2
        first = await database.fetch(
            "select finished_at, account from cuadre.verifications where finished_at < now() - interval '4 days'"
        )
        finished = {row["account"]: row["finished_at"].timestamp() for row in first}
        assert await gauges(database) == (pytest.approx(min(finished.values()), abs=0.001), 2, 0)
        # Accounts that are configured no more are not waited for.
        await refresh_gauges(database, ["south"])
        assert metrics.verify_finished_timestamp_seconds._value.get() == pytest.approx(finished["south"], abs=0.001)
        books.mishap = lambda _asked, _nth: None
        [again] = await nightly(database, client).round()
    assert (again.account, again.finished_at is not None) == ("default", True)
    assert (await gauges(database))[1] == 2
    # A comparison of all accounts tells of each.
    run = (await verify(database, books, accounts=[ACCOUNT, SOUTH])).run
    assert run.finished_at is not None
    assert await gauges(database) == (pytest.approx(run.finished_at.timestamp(), abs=0.001), 0, 0)


async def test_a_run_of_all_accounts_by_the_version_before_is_every_accounts_last(
    database: Database, books: Books
) -> None:
    run = (await verify(database, books, Wish("nightly", sample=4), accounts=[ACCOUNT, SOUTH])).run
    assert run.finished_at is not None
    async with MercadoPagoClient(books.url) as client:
        assert await nightly(database, client).round() == []
    assert (await gauges(database))[0] == pytest.approx(run.finished_at.timestamp(), abs=0.001)


async def test_what_differed_is_looked_at_again_with_its_own_account(database: Database, books: Books) -> None:
    await database.execute("update cuadre.orders set total_amount = 1 where order_id = $1", order_id(35))
    await verify(database, books, accounts=[ACCOUNT, SOUTH])
    await database.execute("update cuadre.orders set total_amount = 100 where order_id = $1", order_id(35))
    books.calls.clear()
    async with MercadoPagoClient(books.url) as client:
        await nightly(database, client).round()
    assert books.calls[order_id(35)] == 1
    assert (await gauges(database))[2] == 0


async def test_a_share_that_moved_meanwhile_begins_nothing_anew(database: Database, books: Books) -> None:
    books.mishap = lambda asked, _nth: web.Response(status=401) if is_of_default(asked) else None
    async with MercadoPagoClient(books.url) as client:
        await nightly(database, client).round()
        books.mishap = lambda _asked, _nth: None
        bodies = [paid_order(number) for number in range(40, 60)]
        books.put(*bodies)
        await store(database, bodies)
        [run] = await nightly(database, client, sample=20).round()
    assert (run.verification_id, run.to_check, run.checked) == (1, 6, 6)


async def test_a_fault_of_ours_in_one_accounts_orders_leaves_the_others_compared(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = Verification.carry_out

    async def fails(self: Verification, run: object) -> object:
        if getattr(run, "account", None) == "default":
            raise RuntimeError("what nobody thought of")
        return await carry_out(self, run)  # type: ignore[arg-type]  # a run, as it came

    monkeypatch.setattr(Verification, "carry_out", fails)
    async with MercadoPagoClient(books.url) as client:
        [run] = await nightly(database, client).round()
    assert (run.account, run.equal) == ("south", 2)
