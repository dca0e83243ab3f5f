"""Leadership: one at a time, renewable, handed on when it ends."""

import asyncio

from service.database.leases import resign, try_lead
from service.database.pool import Database
from tests.integration.database.conditions import wait_until_async


async def test_one_leads_at_a_time(database: Database) -> None:
    answers = await asyncio.gather(*(try_lead(database, "gauges", f"process {n}", 60) for n in range(8)))
    assert answers.count(True) == 1
    leader = f"process {answers.index(True)}"
    assert await try_lead(database, "gauges", leader, 60), "its own lease can be renewed"
    assert not await try_lead(database, "gauges", "another", 60)
    assert await try_lead(database, "events", "another", 60), "each name has its own leader"


async def test_a_lease_that_is_over_goes_to_the_next(database: Database) -> None:
    assert await try_lead(database, "gauges", "first", 0.001)
    await wait_until_async(lambda: try_lead(database, "gauges", "second", 60), "the lease is over")
    assert not await try_lead(database, "gauges", "first", 60)


async def test_resigning(database: Database) -> None:
    assert await try_lead(database, "gauges", "first", 60)
    await resign(database, "gauges", "second")
    assert not await try_lead(database, "gauges", "second", 60), "nobody resigns for another"
    await resign(database, "gauges", "first")
    assert await try_lead(database, "gauges", "second", 60)
