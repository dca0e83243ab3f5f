"""What a comparison reads of a large database is bounded; one that takes too long stops no other account."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web
from asyncpg import QueryCanceledError
from structlog.testing import capture_logs

from service.audit.nightly import NightlyVerification
from service.audit.runs import QUERIES
from service.database.pool import Database
from service.mercadopago.client import MercadoPagoClient
from tests.integration.audit.verify_support import ACCOUNT, Books, provider_books, store, verify
from tests.support.orders import order_id, paid_order

if TYPE_CHECKING:
    from service.database.pool import Connection

SOUTH = replace(ACCOUNT, name="south", access_token="APP_USR-another-token")
LARGE = 20_000


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    """This database is of the day before yesterday."""
    await database.execute("update cuadre.schema_migrations set applied_at = now() - interval '2 days'")
    async with provider_books() as served:
        yield served


class InOneTransaction:
    """A database of one connection, so that what it read can be counted."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.fetch, self.fetchrow = connection.fetch, connection.fetchrow
        self.fetchval, self.execute = connection.fetchval, connection.execute

    @asynccontextmanager
    async def transaction(self) -> "AsyncIterator[Connection]":
        yield self.connection

    acquire = transaction


async def fill(database: Database, account: str, first: int, count: int) -> None:
    """Small rows in `orders` and `sync`, one behind the other."""
    ids = [order_id(number) for number in range(first, first + count)]
    await database.execute(
        """insert into cuadre.orders (
            order_id, account, payload, payload_hash, version, claimed_at, fetched_at, first_seen_at, changed_at,
            updated_at
        )
        select id, $2, '{}', ''::bytea, 1, now(), now(), now(), now(), now() from unnest($1::text[]) as id""",
        ids,
        account,
    )
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust) select id, $2, 2 from unnest($1::text[]) as id",
        ids,
        account,
    )


async def lines_read(connection: "Connection") -> Counter[str]:
    """So far in this transaction (and what the connection has not told of before it), by table and way."""
    rows = await connection.fetch(
        """select relname, coalesce(seq_tup_read, 0) as "all", coalesce(idx_tup_fetch, 0) as "index"
        from pg_stat_xact_user_tables where schemaname = 'cuadre' and relname in ('orders', 'sync')"""
    )
    return Counter({f"{row['relname']} {way}": int(row[way]) for row in rows for way in ("all", "index")})


async def test_a_night_reads_a_share_of_large_tables_and_a_small_account_has_its_sample(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.audit.runs.COUNTED_ONE_BY_ONE", 500, raising=False)
    monkeypatch.setattr("service.audit.runs.PAGES_READ", 20, raising=False)
    monkeypatch.setattr("service.audit.nightly.AT_ONCE", 1)
    await fill(database, "default", 0, LARGE)
    await fill(database, "south", LARGE, 30)
    await database.execute("analyze cuadre.orders, cuadre.sync")
    books.mishap = lambda _asked, _nth: web.Response(status=400)
    async with (
        database.acquire() as connection,
        connection.transaction(isolation="repeatable_read"),  # as the comparison's own, which is one within it
        MercadoPagoClient(books.url) as client,
    ):
        one = cast("Database", InOneTransaction(connection))
        loop = NightlyVerification(one, client, "one", accounts=lambda: [ACCOUNT, SOUTH], sample=10)
        before = await lines_read(connection)
        runs = await loop.round()
        read = await lines_read(connection) - before
    assert [(run.account, run.checked) for run in runs] == [("default", 10), ("south", 1)]
    assert {order_id(number) for number in range(LARGE, LARGE + 30)} & set(books.calls)
    # There are twice as many.
    assert read.total() < LARGE, read


async def test_an_account_is_counted_by_a_share_of_the_pages_where_it_is_large(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, "default", 0, LARGE)
    await fill(database, "south", LARGE, 30)
    await database.execute("delete from cuadre.orders where order_id = $1", order_id(LARGE))

    async def counted(one_by_one: int, pages: int) -> dict[str, int]:
        names = ["default", "south", "none"]
        rows = await database.fetch(QUERIES.count_by_account, names, one_by_one, pages)
        return {row["account"]: row["orders"] for row in rows}

    # What is gone counts.
    assert await counted(LARGE, 10_000) == {"default": LARGE, "south": 30, "none": 0}
    assert await counted(100, 10_000) == {"default": LARGE, "south": 30, "none": 0}
    about = await counted(100, 60)
    assert LARGE / 3 < about["default"] < LARGE * 3
    assert about["south"] >= 29


@pytest.mark.parametrize("error", [QueryCanceledError("canceling statement due to statement timeout"), TimeoutError()])
async def test_an_account_that_takes_the_database_too_long_rests_and_the_others_are_compared(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bodies = [paid_order(number) for number in range(8)]
    books.put(*bodies)
    await store(database, bodies[:5])
    await store(database, bodies[5:], account="south")
    asked = 0
    fetch = database.fetch

    async def slow(query: str, *args: Any) -> Any:
        nonlocal asked
        if query == QUERIES.sample_orders and "default" in args:
            asked += 1
            raise error
        return await fetch(query, *args)

    monkeypatch.setattr(database, "fetch", slow)
    async with MercadoPagoClient(books.url) as client:
        loop = NightlyVerification(database, client, "one", accounts=lambda: [ACCOUNT, SOUTH], sample=8)
        with capture_logs() as logs:
            [south] = await loop.round()
            assert await loop.round() == []
    assert (south.account, south.equal, asked) == ("south", 3, 1)
    [told] = [line for line in logs if line["event"] == "verification_broken_off"]
    assert (told["log_level"], told["account"], told["verification_id"]) == ("warning", "default", 1)
    assert "too long" in told["reason"]
    assert "vacuum analyze" in told["advice"]


async def test_orders_that_cannot_be_counted_in_time_rest_and_are_told(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    fetch = database.fetch

    async def slow(query: str, *args: Any) -> Any:
        nonlocal asked
        if query == QUERIES.count_by_account:
            asked += 1
            raise QueryCanceledError
        return await fetch(query, *args)

    monkeypatch.setattr(database, "fetch", slow)
    async with MercadoPagoClient(books.url) as client:
        loop = NightlyVerification(database, client, "one", accounts=lambda: [ACCOUNT, SOUTH], sample=8)
        with capture_logs() as logs:
            assert await loop.round() == []
            assert await loop.round() == []
    assert asked == 1
    [told] = [line for line in logs if line["event"] == "verification_broken_off"]
    assert told["accounts"] == ["default", "south"]


async def test_a_comparison_ends_though_ever_later_ids_are_told_of(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [paid_order(number) for number in range(3)]
    books.put(*bodies)
    await store(database, bodies)
    pages = 0
    fetch = database.fetch

    async def told_of(query: str, *args: Any) -> Any:
        nonlocal pages
        if query == QUERIES.next_orders:
            pages += 1
            if pages < 20:  # for ever, or this test would not end either
                await database.execute(
                    "insert into cuadre.sync (order_id, account) values ($1, 'default')", order_id(100 + pages)
                )
        return await fetch(query, *args)

    monkeypatch.setattr(database, "fetch", told_of)
    result = await verify(database, books)
    assert (result.run.checked, result.run.equal) == (3, 3)
    assert pages < 5


async def test_a_comparison_of_nothing_at_all_ends(database: Database, books: Books) -> None:
    result = await verify(database, books)
    assert (result.run.checked, result.run.finished_at is not None) == (0, True)
