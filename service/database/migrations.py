"""Applying migrations: one process at a time, however many try; killed at any moment, the next one goes on."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import asyncpg

from service.database.errors import MigrationError
from service.database.pool import connect_arguments
from service.database.schema import Migration, SchemaState, compare, load_migrations, read_history, schema_state

__all__ = ["Migration", "MigrationError", "SchemaState", "load_migrations", "migrate", "schema_state"]

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

LOCK_KEY: Final = int.from_bytes(b"cuadre\x00\x01")
MONTHS_AHEAD: Final = 3

_POLL_SECONDS: Final = 0.25
_LOCK_TIMEOUT: Final = "5s"
_LOCK_ATTEMPTS: Final = 12

_HISTORY: Final = """
create schema if not exists cuadre;
create table if not exists cuadre.schema_migrations (
    number     integer not null primary key,
    name       text not null,
    checksum   text not null,
    applied_at timestamptz not null default now(),
    duration   interval not null
);
"""

# Without it, the server goes on with a killed process' statement to its end, and keeps its locks until then.
# Not every platform that Postgres runs on can tell; there it says so, and stays as it is.
_NOTICE_OUR_END: Final = """
do $$ begin
    perform set_config('client_connection_check_interval', '1000', true);
exception when others then null;
end $$
"""


async def migrate(
    dsn: str,
    *,
    on_progress: Callable[[str], None] | None = None,
    migrations: Sequence[Migration] | None = None,
    wait_seconds: float = 120.0,
) -> list[str]:
    """Bring the database up to date and make the months' partitions; returns the labels of what was applied.

    Any number of processes may call it at once: one works, the others wait up to `wait_seconds` and find nothing left
    to do. `on_progress` gets one line before each step. Raises MigrationError with one line that says what to do (what
    was applied before it stays applied), or what asyncpg raises when the database is not there.
    """
    known = load_migrations() if migrations is None else migrations
    say = on_progress or (lambda line: None)
    async with _connection(dsn) as lock_holder, _connection(dsn) as worker, _alone(lock_holder, say, wait_seconds):
        await worker.execute(_HISTORY)
        pending = compare(known, await read_history(worker))
        for migration in pending:
            say(f"applying {migration.label}")
            await _apply(worker, migration, wait_seconds)
        if await worker.fetchval("select to_regprocedure('cuadre.ensure_partitions(integer)') is not null"):
            await _patiently(lambda: _make_partitions(worker), "making the months' partitions")
    return [migration.label for migration in pending]


@asynccontextmanager
async def _connection(dsn: str) -> "AsyncIterator[Connection]":
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        yield connection
    except BaseException:
        connection.terminate()  # in the middle of a statement the server would not answer a polite goodbye
        raise
    await connection.close(timeout=5)


@asynccontextmanager
async def _alone(connection: "Connection", say: Callable[[str], None], wait_seconds: float) -> AsyncIterator[None]:
    """Hold the lock that all migrating processes agree on.

    It is asked for, never waited for inside Postgres: a waiting statement keeps a snapshot, CREATE INDEX CONCURRENTLY
    in the process that holds the lock waits for that snapshot to go, and neither ever ends. It belongs to a transaction
    of a connection of its own, so that it also works through a transaction pooler, and idle in READ COMMITTED that
    transaction keeps no snapshot either.
    """
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        transaction = connection.transaction(isolation="read_committed")
        await transaction.start()
        try:
            if await connection.fetchval("select pg_try_advisory_xact_lock($1)", LOCK_KEY):
                # Also closes the portal of the query before, which would keep its snapshot.
                await connection.execute("set local idle_in_transaction_session_timeout = 0")
                yield
                return
        finally:
            if not connection.is_closed():
                await transaction.rollback()
        if time.monotonic() > deadline:
            raise MigrationError(
                f"another process has been migrating this database for {wait_seconds:.0f} s; "
                "wait for it, or end it, and run: cuadre migrate"
            )
        if not told:
            say("another process is migrating; waiting for it")
            told = True
        await asyncio.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spreads the askers, keeps no secret


async def _apply(connection: "Connection", migration: Migration, wait_seconds: float) -> None:
    started = time.monotonic()
    try:
        if migration.in_transaction:
            await _patiently(lambda: _apply_in_transaction(connection, migration, started), migration.label)
        else:
            await _refuse_invalid_indexes(connection, migration, wait_seconds)
            # No limits: it stands in nobody's way, and cut short it would leave an invalid index.
            await connection.execute("set lock_timeout = 0; set statement_timeout = 0")
            await connection.fetch(migration.sql)  # the extended protocol takes one statement only
            await _refuse_invalid_indexes(connection, migration, wait_seconds)
            await _record(connection, migration, started)
    except asyncpg.PostgresError as error:
        if connection.is_closed():
            raise  # the server went away, which says nothing about the migration
        invalid = await _invalid_indexes(connection)
        advice = f"; first run: {_drop(invalid)}" if invalid else ""
        raise MigrationError(f"migration {migration.label} failed: {_one_line(error)}{advice}") from error


async def _apply_in_transaction(connection: "Connection", migration: Migration, started: float) -> None:
    async with connection.transaction():
        # Rather than queue behind a long statement, and everybody else behind us, give way and come again.
        await _set_local(connection, lock_timeout=_LOCK_TIMEOUT, statement_timeout="0")
        await connection.execute(_NOTICE_OUR_END)
        await connection.execute(migration.sql)
        await _record(connection, migration, started)


async def _set_local(connection: "Connection", **settings: str) -> None:
    for name, value in settings.items():
        await connection.execute("select set_config($1, $2, true)", name, value)


async def _record(connection: "Connection", migration: Migration, started: float) -> None:
    await connection.execute(
        "insert into cuadre.schema_migrations (number, name, checksum, duration) "
        "values ($1, $2, $3, make_interval(secs => $4))",
        migration.number,
        migration.name,
        migration.checksum,
        time.monotonic() - started,
    )


async def _make_partitions(connection: "Connection") -> None:
    async with connection.transaction():
        await _set_local(connection, lock_timeout=_LOCK_TIMEOUT)
        await connection.execute("select cuadre.ensure_partitions($1)", MONTHS_AHEAD)


async def _patiently(attempt: Callable[[], Awaitable[None]], what: str) -> None:
    """Try again where a lock could not be had; the transaction of the failed attempt is rolled back by then."""
    for number in range(1, _LOCK_ATTEMPTS + 1):
        try:
            return await attempt()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if number == _LOCK_ATTEMPTS:
                raise MigrationError(
                    f"{what}: could not lock its tables in {number} attempts ({_one_line(error)}); "
                    "end the long transactions in pg_stat_activity and run: cuadre migrate"
                ) from error
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - spreads the attempts, keeps no secret
    raise AssertionError("unreachable")


async def _refuse_invalid_indexes(connection: "Connection", migration: Migration, wait_seconds: float) -> None:
    """An index of a killed build is not used, costs every write, and `if not exists` takes it for the finished one."""
    deadline = time.monotonic() + wait_seconds
    while invalid := await _invalid_indexes(connection):
        # A killed process leaves its statement running in the server, which may yet come to a good end.
        building = await connection.fetchval("select exists (select from pg_stat_progress_create_index)")
        if not building or time.monotonic() > deadline:
            raise MigrationError(
                f"migration {migration.label}: {', '.join(invalid)} was left unfinished; first run: {_drop(invalid)}"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _invalid_indexes(connection: "Connection") -> list[str]:
    rows = await connection.fetch(
        "select format('%I.%I', n.nspname, c.relname) as name from pg_index i "
        "join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace "
        "where not i.indisvalid and n.nspname = 'cuadre' and c.relkind = 'i' order by 1"
    )
    return [row["name"] for row in rows]


def _drop(indexes: Sequence[str]) -> str:
    return "; ".join(f"drop index concurrently {index}" for index in indexes)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
