"""The operator's script for rows that found no month: nothing lost, every row in its month, and months again ahead."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import pytest

SCRIPT = (Path(__file__).resolve().parents[3] / "deploy/postgres/empty-default-partitions.sql").read_text()
LONG_AGO, NOW = date(2024, 2, 1), datetime(2024, 2, 29, 23, 59, tzinfo=UTC)


@pytest.fixture
async def connection(database_dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(database_dsn)
    yield opened
    await opened.close()


async def where_rows_lie(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, str]:
    rows = await connection.fetch(
        "select order_id, relname as place from cuadre.fetches join pg_class on pg_class.oid = fetches.tableoid"
    )
    return {row["order_id"]: row["place"] for row in rows}


async def months_ahead(connection: "asyncpg.Connection[asyncpg.Record]", table: str) -> int:
    children = "select count(*) from pg_inherits where inhparent = $1::text::regclass"
    return int(await connection.fetchval(children, f"cuadre.{table}"))


async def test_rows_move_to_their_months(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    insert = (
        "insert into cuadre.fetches (order_id, claimed_at, period, account, cause, outcome, settled_at) "
        "values ($1, $2, $3, 'default', 'notification', 'applied', $2)"
    )
    this_month = await connection.fetchval("select cuadre.period_of(clock_timestamp())")
    missing = f"fetches_{this_month:%Y%m}"
    await connection.execute(f"drop table cuadre.{missing}")
    await connection.execute(insert, "long-ago", NOW, LONG_AGO)
    await connection.execute(insert, "this-month", NOW, this_month)
    assert set((await where_rows_lie(connection)).values()) == {"fetches_default"}
    # It cannot be made while its rows lie in the default partition; that fails nothing else and is told by a metric.
    assert await connection.fetchval("select cuadre.ensure_partitions(3)") == 0

    await connection.execute(SCRIPT)
    lying = {"long-ago": "fetches_202402", "this-month": missing}
    assert await where_rows_lie(connection) == lying

    # Again, it finds nothing to do; and a row without a month still has a place to land.
    before = await months_ahead(connection, "fetches")
    await connection.execute(SCRIPT)
    assert await where_rows_lie(connection) == lying
    assert await months_ahead(connection, "fetches") == before
    await connection.execute(insert, "strange", NOW, date(1999, 1, 1))
    assert (await where_rows_lie(connection))["strange"] == "fetches_default"


async def test_it_waits_for_nobody_for_long(
    connection: "asyncpg.Connection[asyncpg.Record]", database_dsn: str
) -> None:
    """A table that somebody holds is left alone, with nothing half done."""
    impatient = SCRIPT.replace("lock_timeout = '5s'", "lock_timeout = '50ms'")
    assert impatient != SCRIPT
    holder = await asyncpg.connect(database_dsn)
    try:
        async with holder.transaction():
            await holder.execute("lock table cuadre.events in access share mode")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.execute(impatient)
            await connection.execute("rollback")
        assert await months_ahead(connection, "notifications") == await months_ahead(connection, "events")
    finally:
        await holder.close()
