"""Asked looks before scheduled ones: whoever is told of goes first, nobody is left out, and a claim stays cheap."""

import asyncio
from typing import Any

from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.sync.claims import QUERIES, Claim, Lane, claim_due
from tests.integration.sync.test_sync_plans import assert_indexed, plan_of
from tests.support.deliveries import delivery
from tests.support.looking import see
from tests.support.orders import order, order_id

BACKLOG = 2000
SCHEDULED = f"""
insert into cuadre.sync (order_id, account, trust, requested, fetched, due_at)
select 'ORD' || lpad(n::text, 26, '0'), 'default', 2, 1, 1, now() - interval '1 h' - make_interval(secs => n)
from generate_series(1, {BACKLOG}) as n
"""
TOLD, STRANGER = 900_001, 950_001


async def backlog(database: Database) -> None:
    """Stored orders whose scheduled looks have been due for an hour and more."""
    await database.execute(SCHEDULED)
    await database.execute("analyze cuadre.sync")


async def tell(database: Database, *numbers: int, verified: bool) -> None:
    """A notification for each, through the real intake."""
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await asyncio.gather(*(recorder.record(delivery(order_id(number), verified=verified)) for number in numbers))
    await recorder.close()


def numbers(claims: list[Claim]) -> set[int]:
    return {int(one.order_id[3:]) for one in claims}


async def claimed(database: Database, known: int, unknown: int = 0, *, at_most: int = 1000) -> list[Claim]:
    lanes = [Lane("default", True, known)] + ([Lane("default", False, unknown)] if unknown else [])
    return await claim_due(database, lanes, lease_seconds=60, at_most=at_most)


async def test_a_notifications_order_goes_before_a_backlog_of_scheduled_looks(database: Database) -> None:
    await backlog(database)
    await see(database, order(TOLD))
    await tell(database, TOLD, verified=True)
    assert TOLD in numbers(await claimed(database, 4))


async def test_scheduled_looks_are_served_in_the_same_round_where_room_is_left(database: Database) -> None:
    await backlog(database)
    told = set(range(TOLD, TOLD + 5))
    await tell(database, *told, verified=True)
    first = numbers(await claimed(database, 12))
    # The longest waiting of the schedule's.
    assert first == told | set(range(BACKLOG - 6, BACKLOG + 1))
    assert numbers(await claimed(database, 12)) == set(range(BACKLOG - 18, BACKLOG - 6))


async def test_a_scheduled_look_that_somebody_asks_for_moves_to_the_front(database: Database) -> None:
    await backlog(database)
    await tell(database, 3, verified=True)
    causes = {claim.order_id: claim.cause for claim in await claimed(database, 4)}
    assert causes[order_id(3)] == "notification"


async def test_strangers_keep_their_share_beside_both(database: Database) -> None:
    await backlog(database)
    await tell(database, *range(TOLD, TOLD + 30), verified=True)
    await tell(database, *range(STRANGER, STRANGER + 30), verified=False)
    claims = await claimed(database, 20, 10)
    assert sum(not one.known for one in claims) == 10
    assert sum(one.known for one in claims) == 20
    told = numbers([one for one in claims if one.known]) & set(range(TOLD, TOLD + 30))
    assert 14 <= len(told) < 20


async def test_a_storm_leaves_the_schedule_a_share_even_where_one_order_is_claimed_at_a_time(
    database: Database,
) -> None:
    await backlog(database)
    await tell(database, *range(TOLD, TOLD + 150), verified=True)
    taken = [one for _ in range(100) for one in await claimed(database, 1)]
    told = numbers(taken) & set(range(TOLD, TOLD + 150))
    assert len(taken) == 100
    # A quarter on average; that none or most are the schedule's does not happen by chance.
    assert 50 < len(told) < 100


async def test_the_whole_backlog_is_served_while_notifications_go_on(database: Database) -> None:
    await backlog(database)
    seen: set[int] = set()
    for turn in range(30):
        await tell(database, TOLD + turn, verified=True)
        one = numbers(await claimed(database, 100))
        assert TOLD + turn in one, "told of in this very round"
        seen |= one
    assert seen >= set(range(1, BACKLOG + 1))


async def test_the_plan_of_a_claim_is_bounded_by_its_room(database: Database, database_dsn: str) -> None:
    await backlog(database)
    await tell(database, *range(TOLD, TOLD + 40), verified=True)
    await tell(database, *range(STRANGER, STRANGER + 40), verified=False)
    pinned = await Database.connect(database_dsn, max_size=1, pin_plans=True)
    room: list[Any] = [["default", "default"], [True, False], [10, 5], 30.0, 12]
    plan = await plan_of(pinned, QUERIES.claim_due_orders, *room)
    await pinned.close()
    assert_indexed(plan, "sync_due", "sync_pkey", most_rows=60)


async def test_counting_the_looks_of_a_day_reads_what_it_counts(database: Database, database_dsn: str) -> None:
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust, requested, fetched, due_at) "
        "select 'ORD' || lpad(n::text, 26, '0'), case when n % 10 = 0 then 'removed' else 'default' end, 2, 1, 1, "
        "now() + make_interval(days => n % 300) + interval '1 min' from generate_series(1, 30000) as n"
    )
    await database.execute("vacuum analyze cuadre.sync")
    pinned = await Database.connect(database_dsn, max_size=1, pin_plans=True)
    assert await pinned.fetchval(QUERIES.read_looks_next_day, ["default"]) == 0
    assert await pinned.fetchval(QUERIES.read_looks_next_day, ["removed"]) == 100
    plan = await plan_of(pinned, QUERIES.read_looks_next_day, ["default", "removed"])
    await pinned.close()
    assert_indexed(plan, "sync_due", most_rows=110)
