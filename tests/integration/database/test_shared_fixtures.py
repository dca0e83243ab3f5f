"""The fixtures that other tests stand on."""

import asyncpg

from service.database.migrations import schema_state
from service.database.pool import Database


async def test_each_test_gets_the_current_schema_and_nothing_in_it(database: Database) -> None:
    assert (await schema_state(database)).state == "current"
    assert await database.fetchval("select count(*) from cuadre.sync") == 0


def test_a_synchronous_test_gets_a_database_too(database_dsn: str) -> None:
    assert database_dsn.startswith("postgresql://")


async def test_without_the_schema(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    try:
        assert (await schema_state(connection)).state == "missing"
    finally:
        await connection.close()
