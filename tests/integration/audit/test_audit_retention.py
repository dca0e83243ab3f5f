"""Months that policy keeps no longer go; everything else stays."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from service.audit.retention import RetentionPolicy, drop_expired
from service.database.pool import Database


def _month(months_ago: int) -> datetime:
    moment = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(months_ago):
        moment = (moment - timedelta(days=1)).replace(day=1)
    return moment


async def _add_month(database: Database, table: str, months_ago: int) -> str:
    first, name = _month(months_ago), f"{table}_{_month(months_ago):%Y%m}"
    after = (first + timedelta(days=32)).replace(day=1)
    await database.execute(
        f"create table cuadre.{name} partition of cuadre.{table} for values from ('{first:%F}') to ('{after:%F}')"
    )
    return name


async def _partitions(database: Database, table: str) -> set[str]:
    rows = await database.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = $1::regclass",
        f"cuadre.{table}",
    )
    return {row["relname"] for row in rows}


async def test_old_months_are_dropped_and_the_current_one_and_the_default_stay(database: Database) -> None:
    old, older = await _add_month(database, "events", 3), await _add_month(database, "events", 9)
    versions = await _add_month(database, "order_versions", 9)
    before = await _partitions(database, "events")

    dropped = await drop_expired(database, RetentionPolicy(events_days=1))

    assert sorted(dropped) == sorted([old, older])
    assert await _partitions(database, "events") == before - {old, older}
    assert "events_default" in await _partitions(database, "events")
    assert versions in await _partitions(database, "order_versions")


async def test_a_month_stays_until_its_last_day_is_old_enough(database: Database) -> None:
    name = await _add_month(database, "fetches", 2)
    last_day = _month(1) - timedelta(days=1)
    age = (datetime.now(UTC) - last_day).days

    assert await drop_expired(database, RetentionPolicy(fetches_days=age + 2)) == []
    assert await drop_expired(database, RetentionPolicy(fetches_days=age - 1)) == [name]


async def test_the_usual_policy_drops_nothing(database: Database) -> None:
    await _add_month(database, "notifications", 30)

    assert await drop_expired(database, RetentionPolicy()) == []


async def test_a_month_in_use_is_left_for_a_later_call(database: Database, database_dsn: str) -> None:
    name = await _add_month(database, "events", 5)
    reader = await asyncpg.connect(database_dsn)
    try:
        async with asyncio.timeout(30), reader.transaction():
            await reader.fetch("select count(*) from cuadre.events")
            assert await drop_expired(database, RetentionPolicy(events_days=30)) == []
        assert await drop_expired(database, RetentionPolicy(events_days=30)) == [name]
    finally:
        await reader.close()


async def test_tables_that_stay_cannot_be_dropped(database: Database) -> None:
    with pytest.raises(asyncpg.RaiseError, match="never dropped"):
        await database.fetchval("select cuadre.drop_partitions('orders', current_date)")
