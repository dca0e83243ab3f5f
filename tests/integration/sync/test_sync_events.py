"""Invariant I6: who follows `events` by position misses none, though transactions commit out of order."""

import asyncio

from service.database.pool import Database
from service.sync.positions import Positions, assign_positions
from tests.support.looking import see
from tests.support.orders import order, order_id, paid_order
from tests.support.waiting import until

ORDERS = 60


async def test_a_follower_misses_nothing_while_many_writers_commit(database_dsn: str, database: Database) -> None:
    writers = [await Database.connect(database_dsn, max_size=4) for _ in range(4)]
    numbering = [Positions(writer) for writer in writers]
    tasks = [asyncio.create_task(positions.run()) for positions in numbering]
    followed: list[tuple[int, str, int]] = []

    async def write(writer: Database, positions: Positions, numbers: range) -> None:
        for number in numbers:
            for body in (order(number), paid_order(number)):
                await see(writer, body)
                positions.wake()

    async def follow() -> None:
        last = 0
        while len(followed) < ORDERS * 2:
            rows = await database.fetch(
                "select position, order_id, version from cuadre.events where position > $1 order by position", last
            )
            followed.extend((row["position"], row["order_id"], row["version"]) for row in rows)
            last = followed[-1][0] if followed else 0
            await asyncio.sleep(0)

    try:
        async with asyncio.timeout(60):
            share = ORDERS // len(writers)
            await asyncio.gather(
                follow(),
                *(
                    write(writers[n], numbering[n], range(1 + n * share, 1 + (n + 1) * share))
                    for n in range(len(writers))
                ),
            )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            await writer.close()
    assert len({position for position, _, _ in followed}) == ORDERS * 2
    for number in range(1, ORDERS + 1):
        assert [version for _, name, version in followed if name == order_id(number)] == [1, 2]


async def test_what_a_dead_process_left_without_a_position_is_swept_up(database: Database) -> None:
    await see(database, order(1), order(2))
    assert await database.fetchval("select count(*) from cuadre.events where position is null") == 2
    assert await assign_positions(database)

    async def all_numbered() -> bool:
        return bool(await database.fetchval("select bool_and(position is not null) from cuadre.events"))

    await until(all_numbered, what="every event has its position")


async def test_a_position_is_given_once(database: Database) -> None:
    await see(database, *(order(number) for number in range(1, 9)))
    await asyncio.gather(*(assign_positions(database) for _ in range(6)))
    while not await assign_positions(database):
        pass
    before = await database.fetch("select event_id, position from cuadre.events order by event_id")
    await assign_positions(database)
    assert await database.fetch("select event_id, position from cuadre.events order by event_id") == before
    positions = [row["position"] for row in before]
    assert positions == sorted(set(positions))
