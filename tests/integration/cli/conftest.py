"""A configured environment for commands: a fresh database, a provider on loopback, marked secrets."""

import logging
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from aiohttp.test_utils import TestServer

from tests.integration.cli.cli_support import SECRET, TOKEN, USER_ID, Cuadre, Provider


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No setting from outside, and logging as it was afterwards: commands point it at their own standard error."""
    for name in list(os.environ):
        if name.upper().startswith("CUADRE_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield monkeypatch
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
async def provider(environment: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    """The stub; commands are told its address."""
    stub = Provider()
    server = TestServer(stub.application(), skip_url_asserts=True)
    await server.start_server()
    environment.setenv("CUADRE_MERCADOPAGO_URL", str(server.make_url("")).rstrip("/"))
    yield stub
    await server.close()


@pytest.fixture
def cuadre(environment: pytest.MonkeyPatch, provider: Provider, database_dsn: str) -> Cuadre:
    """Commands with everything in order: a fresh database, the stub, one account named `default`."""
    del provider
    environment.setenv("CUADRE_DATABASE_URL", database_dsn)
    environment.setenv("CUADRE_ACCESS_TOKEN", TOKEN)
    environment.setenv("CUADRE_USER_ID", USER_ID)
    environment.setenv("CUADRE_WEBHOOK_SECRETS", SECRET)
    password = database_dsn.partition("://")[2].partition("@")[0].partition(":")[2]
    return Cuadre([TOKEN, SECRET, *([password] if password else [])])
