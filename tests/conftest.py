"""Fixtures of all tests: a migrated database of one's own, on a PostgreSQL server that the whole run shares.

database_dsn   a fresh database with the schema, for one test (a copy of a template: milliseconds)
empty_dsn      a fresh database without the schema
database       a connected `Database` on `database_dsn`
own_postgres   a server of one's own with every durability setting on, to restart, stop and kill
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from service.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
from service.database.pool import Database
from tests import shared_postgres

settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DSN of the run's server. See tests/shared_postgres.py for how it ends."""
    own = tmp_path_factory.getbasetemp()
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    # A worker's folder lies in the run's folder; a run without workers has that one to itself.
    server = shared_postgres.join(own if alone else own.parent)
    try:
        yield server.dsn
    finally:
        server.leave(wait=alone)


@pytest.fixture(scope="session")
def maintenance(shared_server: str) -> Iterator[shared_postgres.Maintenance]:
    """Creates and drops databases on the shared server."""
    connection = shared_postgres.Maintenance(shared_server)
    yield connection
    connection.close()


@pytest.fixture
def database_dsn(shared_server: str, maintenance: shared_postgres.Maintenance) -> Iterator[str]:
    """A fresh database with the current schema and nothing in it; gone after the test."""
    yield from _fresh_database(shared_server, maintenance, shared_postgres.TEMPLATE)


@pytest.fixture
def empty_dsn(shared_server: str, maintenance: shared_postgres.Maintenance) -> Iterator[str]:
    """A fresh database without the schema; gone after the test."""
    yield from _fresh_database(shared_server, maintenance, "template1")


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """A connected pool on a fresh database."""
    pool = await Database.connect(database_dsn)
    yield pool
    await pool.close()


@pytest.fixture(scope="session")
def pristine_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a server that was started once and stopped: copying it is cheaper than making it."""
    data = tmp_path_factory.mktemp("pristine") / "postgres"
    try:
        with EmbeddedPostgres(data):
            pass
    except EmbeddedPostgresError as error:
        if "not installed" in str(error):
            pytest.skip(str(error))
        raise
    yield data
    shutil.rmtree(data)


@pytest.fixture
def own_postgres(tmp_path: Path, pristine_data: Path) -> Iterator[EmbeddedPostgres]:
    """A running server of the test's own, as durable as in production. Restart it, stop it, kill it."""
    data = tmp_path / "postgres"
    subprocess.run(["cp", "-pR", pristine_data, data], check=True)  # with its owners, which shutil would not keep
    server = EmbeddedPostgres(data)
    server.start()
    yield server
    server.stop("immediate")
    shutil.rmtree(data)  # pytest keeps the folders of its last runs


def _fresh_database(dsn: str, maintenance: shared_postgres.Maintenance, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    maintenance.execute(f"create database {name} template {template}")
    yield shared_postgres.with_database(dsn, name)
    maintenance.execute(f"drop database {name} with (force)")
