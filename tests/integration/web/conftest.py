"""The internal application on a loopback port, before a database of the test's own."""

from collections.abc import AsyncIterator

import pytest

from service.database.pool import Database
from tests.integration.web.internal_port import InternalPort, serve


@pytest.fixture
async def port(database: Database) -> AsyncIterator[InternalPort]:
    """The application, and a client of it."""
    async with serve(database) as internal:
        yield internal
