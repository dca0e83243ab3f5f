"""What the elected process does for all, and only it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import generate_latest

from service.database.pool import Database
from service.sync.housekeeping import Housekeeping
from service.telemetry import metrics
from tests.support.looking import open_discrepancies, see
from tests.support.orders import order, order_id, paid_order, refund, refunded_order
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _gauges_leave_nothing_behind() -> Iterator[None]:
    yield
    metrics.orders.clear()
    metrics.discrepancies_open.clear()


@asynccontextmanager
async def housekeeping(database: Database, holder: str) -> AsyncIterator[Housekeeping]:
    keeper = Housekeeping(database, holder, accounts=lambda: ["default"])
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def page() -> str:
    return generate_latest(metrics.REGISTRY).decode()


async def shown(line: str) -> bool:
    return line in page()


async def test_the_elected_process_shows_the_database_and_takes_it_back_in_the_end(database: Database) -> None:
    wrong = refunded_order(3, "30.00")
    wrong["transactions"]["payments"][0]["refunded_amount"] = "10.00"
    await see(database, order(1), paid_order(2), wrong)
    await database.execute(
        "insert into cuadre.sync (order_id, account, due_at, quarantined_at, quarantine_reason) values "
        "('ORDOLD', 'default', now() - interval '1 h', null, null), ('ORDGONE', 'default', null, now(), 'not_found'), "
        "('ORDNOBODYS', 'removed', now() - interval '9 h', null, null)"
    )
    assert "cuadre_orders_due" not in page()
    async with housekeeping(database, "me"):
        await until(lambda: shown('cuadre_orders{status="processed",type="qr"} 2.0'), what="orders are counted")
        await until(lambda: shown("cuadre_orders_due 1.0"), what="what is due, of accounts that somebody looks after")
        assert await shown("cuadre_orders_quarantined 1.0")
        assert await shown('cuadre_discrepancies_open{rule="refunded_amount_mismatch"} 1.0')
        assert await shown('cuadre_discrepancies_open{rule="refund_stuck"} 0.0'), "a rule with nothing open says so"
        assert await shown('cuadre_default_partition_rows{table="events"} 0.0')
        oldest = next(line for line in page().splitlines() if line.startswith("cuadre_oldest_due_seconds"))
        assert 3600 <= float(oldest.split()[1]) < 3700
    assert "cuadre_orders_due" not in page()


async def test_one_is_elected_and_the_next_takes_over_when_it_resigns(database: Database) -> None:
    async with housekeeping(database, "first") as first:

        async def elected() -> str | None:
            return await database.fetchval("select holder from cuadre.leaders where held_until > now()")  # type: ignore[no-any-return]  # a text column

        await until(elected, what="somebody is elected")
        async with housekeeping(database, "second"):
            assert await elected() == "first"
        await first.resign()
        assert await elected() is None
        async with housekeeping(database, "third"):
            await until(elected, what="another one is elected")
            assert await elected() == "third"


async def test_rules_that_time_alone_moves_are_judged_when_due(database: Database) -> None:
    stuck = paid_order(1)
    stuck["transactions"]["refunds"] = [refund(1, 1, "10.00", status="processing")]
    await see(database, stuck)
    await database.execute("update cuadre.refunds set first_seen_at = first_seen_at - interval '25 h'")
    await database.execute("update cuadre.orders set rules_due_at = now()")
    async with housekeeping(database, "me"):

        async def opened() -> bool:
            return {(one, rule) for one, rule, _ in await open_discrepancies(database)} == {
                (order_id(1), "refund_stuck")
            }

        await until(opened, what="the stuck refund is seen without a look")
        assert await database.fetchval("select count(*) from cuadre.events where type = 'discrepancy.opened'") == 1


async def test_the_months_ahead_are_made(database: Database) -> None:
    await database.execute("select 1 from cuadre.ensure_partitions(3)")
    last = await database.fetchval(
        "select max(relname::text) from pg_class where relname like 'notifications\\_2%' and relkind = 'r'"
    )
    await database.execute(f"drop table cuadre.{last}")
    async with housekeeping(database, "me"):

        async def made() -> bool:
            return bool(await database.fetchval("select to_regclass('cuadre.' || $1::text) is not null", last))

        await until(made, what="the month is made")
