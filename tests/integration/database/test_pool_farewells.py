"""A pooled connection to which the server says farewell while nobody listens, as in a failover."""

from typing import Any

import pytest

from service.database.pool import UNAVAILABLE, Database

# What a backend sends when its postmaster is gone: ErrorResponse, severity FATAL, and no end of the connection yet.
FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0"
FAREWELL = b"E" + (len(FIELDS) + 4).to_bytes(4, "big") + FIELDS


async def test_a_statement_that_comes_after_the_farewell_finds_the_database_unavailable(database_dsn: str) -> None:
    database = await Database.connect(database_dsn, max_size=1)
    async with database.acquire() as connection:
        protocol: Any = connection._con._protocol  # type: ignore[attr-defined]  # asyncpg's own, where the socket ends
        protocol.data_received(FAREWELL)
    with pytest.raises(UNAVAILABLE, match="cannot switch to state"):
        await database.fetchval("select 1")
    assert await database.fetchval("select 2") == 2, "it is not used again"
    await database.close()
