"""Connections to Postgres: a pool that outlives the server, and what its errors mean.

The pool connects when a connection is needed, so a service can start before its database. A connection that saw the
server go, or turn read-only after a failover, takes the whole pool's connections with it: none of them is used again.
"""

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import asyncpg
import structlog
from asyncpg import exceptions
from asyncpg.exceptions import _base as client_exceptions

from service.telemetry import metrics

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

log = structlog.stdlib.get_logger(__name__)

CONNECT_TIMEOUT_SECONDS: Final = 5.0
WRITABLE_TIMEOUT_SECONDS: Final = 2.0
REFUSAL_SAID_EVERY_SECONDS: Final = 5.0

# What libpq keeps to itself; asyncpg would send it to the server, which knows no such settings. What must be kept for
# safety's sake (`channel_binding=require`) is not among it: better refused than ignored.
_LIBPQ_ONLY: Final = frozenset({
    "channel_binding", "connect_timeout", "fallback_application_name", "gssencmode", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "load_balance_hosts", "sslcompression", "sslsni", "tcp_user_timeout",
})  # fmt: skip

# One item's values are wrong; the same statement with other values would do. Includes what asyncpg refuses to encode.
# Look for these first: asyncpg's own DataError is an InterfaceError, too.
ITEM_FAULT: Final[tuple[type[BaseException], ...]] = (
    client_exceptions.DataError,
    exceptions.DataError,
    exceptions.IntegrityConstraintViolationError,
    exceptions.ProgramLimitExceededError,
    exceptions.UntranslatableCharacterError,
)

# The database is not there right now, or cannot do it right now: nothing is wrong with what was asked.
UNAVAILABLE: Final[tuple[type[BaseException], ...]] = (
    OSError,  # ConnectionError, TimeoutError (asyncio's is the same), name resolution
    exceptions.InterfaceError,
    exceptions.PostgresConnectionError,
    exceptions.OperatorInterventionError,  # shutdown, crash, starting up, query cancelled by a timeout
    exceptions.InsufficientResourcesError,  # too many connections, disk full, out of memory
    exceptions.ReadOnlySQLTransactionError,  # demoted by a failover
    exceptions.IdleInTransactionSessionTimeoutError,
    exceptions.TransactionRollbackError,  # deadlock, serialization: the next attempt may do
    exceptions.LockNotAvailableError,
    exceptions.PostgresSystemError,
    # An answer that broke off; none of several hosts takes writes; and a pooled connection whose server said farewell
    # while nobody listened, which is told as "cannot switch to state 12; another operation (2) is in progress".
    client_exceptions.InternalClientError,
)

# The connection's server is gone or demoted, so its siblings are worth nothing either.
_GONE: Final[tuple[type[BaseException], ...]] = (
    OSError,
    exceptions.ReadOnlySQLTransactionError,
    exceptions.AdminShutdownError,
    exceptions.CrashShutdownError,
    exceptions.CannotConnectNowError,
    exceptions.DatabaseDroppedError,
    exceptions.PostgresConnectionError,
    client_exceptions.InternalClientError,
)


def is_item_fault(error: BaseException) -> bool:
    """Whether one item's values are the reason, so that its neighbours in a batch deserve another try."""
    return isinstance(error, ITEM_FAULT)


class DatabaseRefusesError(ConnectionError):
    """The server answers, and lets nobody in at this moment: the database is closed, or has another name for a while,
    the login is locked, the password is being changed. Not a fault of what was asked, so it is waited for.
    """


class Querying(Protocol):
    """What can run a query: a `Database`, a pooled connection, a plain asyncpg connection."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows of the result."""
        ...


class _Connection(asyncpg.Connection):
    """asyncpg would send a reset statement after every use. Nothing here leaves session state behind (no SET, LISTEN,
    session advisory lock or WITH HOLD cursor on a pooled connection), so that round trip is saved. An open transaction
    is rolled back all the same.
    """

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool of connections to one Postgres (or to the writable one of several hosts).

    Make it with `connect`. All durations are seconds.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, acquire_timeout_seconds: float) -> None:
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._refusal_said_at = -REFUSAL_SAID_EVERY_SECONDS

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        statement_cache_size: int = 100,
        min_size: int = 1,
        max_size: int = 8,
        application_name: str = "cuadre",
        pin_plans: bool = False,
        command_timeout_seconds: float = 30.0,
        acquire_timeout_seconds: float = 5.0,
    ) -> "Database":
        """A pool for `dsn`; a server that is down or closed is no error, a malformed DSN or a refused password is.

        `min_size` connections are opened at once where the server answers. `statement_cache_size=0` is for PgBouncer
        in transaction mode; no session settings are sent then, because it refuses them. With several hosts in the DSN
        the writable one is chosen unless the DSN says otherwise. `pin_plans`: see `session_settings`.
        """
        pool = asyncpg.create_pool(
            min_size=0,  # asyncpg's own floor fails at the start, and logs a stack trace per retry, without a server
            max_size=max_size,
            connection_class=_Connection,
            command_timeout=command_timeout_seconds,
            **connect_arguments(
                dsn,
                statement_cache_size=statement_cache_size,
                settings=session_settings(application_name=application_name, pin_plans=pin_plans),
            ),
        )
        await pool
        database = cls(pool, acquire_timeout_seconds=acquire_timeout_seconds)
        try:
            await database._open(min(min_size, max_size))
        except BaseException:
            pool.terminate()
            raise
        return database

    async def _open(self, count: int) -> None:
        async with contextlib.AsyncExitStack() as held:
            try:
                for _ in range(count):
                    await held.enter_async_context(self.acquire(timeout_seconds=WRITABLE_TIMEOUT_SECONDS))
            except exceptions.ClientConfigurationError:
                raise
            except DatabaseRefusesError as error:
                if isinstance(error.__cause__, exceptions.ObjectNotInPrerequisiteStateError):
                    return  # it takes no connections for now
                raise error.__cause__ or error from None
            except UNAVAILABLE:
                return

    @contextlib.asynccontextmanager
    async def acquire(self, *, timeout_seconds: float | None = None) -> "AsyncIterator[Connection]":
        """A connection for the block.

        Raises TimeoutError when none is free in time, `DatabaseRefusesError` when the server lets nobody in, else what
        asyncpg raises.
        """
        try:
            async with contextlib.AsyncExitStack() as held:
                yield await self._enter(held, timeout_seconds or self._acquire_timeout_seconds)
        except BaseException as error:
            if _server_is_gone(error):
                await self._pool.expire_connections()
            raise

    async def _enter(self, held: contextlib.AsyncExitStack, timeout_seconds: float) -> "Connection":
        try:
            return await held.enter_async_context(self._pool.acquire(timeout=timeout_seconds))
        except exceptions.PostgresError as error:
            if isinstance(error, UNAVAILABLE):
                raise
            now = time.monotonic()
            if now >= self._refusal_said_at + REFUSAL_SAID_EVERY_SECONDS:
                self._refusal_said_at = now
                log.warning(
                    "database_refuses", error=type(error).__name__, reason=str(error),
                    advice="it is tried again; look at CUADRE_DATABASE_URL and at the server",
                )  # fmt: skip
            raise DatabaseRefusesError(errno.ECONNREFUSED, str(error)) from error

    @contextlib.asynccontextmanager
    async def transaction(self) -> "AsyncIterator[Connection]":
        """A connection in a transaction: committed at the end of the block, rolled back when it raises."""
        # Named, because a database may have another default: each statement must see what was committed before it.
        async with self.acquire() as connection, connection.transaction(isolation="read_committed"):
            yield connection

    async def fetch(self, query: str, *args: Any) -> "list[asyncpg.Record]":
        """All rows."""
        async with self.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> "asyncpg.Record | None":
        """The first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        """Run it; returns Postgres' command tag, e.g. `UPDATE 3`."""
        async with self.acquire() as connection:
            return await connection.execute(query, *args)

    async def is_writable(self) -> bool:
        """Whether a write would be taken now; any trouble at all, and no answer within two seconds, mean no.

        Letting go of a frozen server's connection takes a few seconds more. Who cannot wait for that does not await it.
        """
        try:
            async with asyncio.timeout(WRITABLE_TIMEOUT_SECONDS):
                writable = await self.fetchval(
                    "select not pg_is_in_recovery() and not current_setting('transaction_read_only')::boolean"
                )
                if writable is not True:
                    # Demoted, and the connections left open. Without them, the next one looks for the primary.
                    await self._pool.expire_connections()
        except Exception:
            return False  # whatever the reason; the caller's next query says it
        return writable is True

    def report_pool(self) -> None:
        """Set the gauge `cuadre_db_pool_connections` to what the pool holds: `idle` and `used`."""
        idle = self._pool.get_idle_size()
        metrics.db_pool_connections.labels("idle").set(idle)
        metrics.db_pool_connections.labels("used").set(self._pool.get_size() - idle)

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - past it, connections are cut, not waited for
        """Wait `timeout` seconds for connections in use to come back, then cut what is left. May be called twice."""
        try:
            async with asyncio.timeout(timeout):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


def connect_arguments(
    dsn: str, *, statement_cache_size: int = 0, settings: dict[str, str] | None = None
) -> dict[str, Any]:
    """Arguments for asyncpg's `connect` and `create_pool` that every connection of ours shares.

    Of what a DSN for libpq may say besides, `connect_timeout` (seconds) is heeded; the rest that is libpq's own is not.
    """
    dsn, connect_timeout_seconds = _without_libpqs_own(dsn)
    arguments: dict[str, Any] = {
        "dsn": dsn,
        "timeout": connect_timeout_seconds or CONNECT_TIMEOUT_SECONDS,
        "statement_cache_size": statement_cache_size,
    }
    if statement_cache_size > 0 and settings:
        arguments["server_settings"] = settings
    if _needs_a_writable_host(dsn):
        arguments["target_session_attrs"] = "read-write"
    return arguments


def session_settings(*, application_name: str, pin_plans: bool) -> dict[str, str]:
    """What Postgres is told at the start of a session.

    With `pin_plans` the planner has nothing left but the indexes the hot statements are written for: planned on empty
    tables they would get sequential scans and hash joins, and a cached generic plan keeps those when the tables have
    grown. `plan_cache_mode` stays `auto`: custom plans cost a planning per call, generic ones come by themselves after
    five, and with the joins pinned both are the same plan.

    A replica that stands still in the middle of a transaction holds an order's row. It has to lose it while a delivery
    for that order can still be committed in time for its answer (`CUADRE_ACK_TIMEOUT_SECONDS`, 4 s).
    """
    settings = {
        "application_name": application_name,
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "3s",
        "jit": "off",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",
    }
    if pin_plans:
        settings |= {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
    return settings


def _server_is_gone(error: BaseException) -> bool:
    if isinstance(error, _GONE):
        # None was free in time, or one statement took too long; or nobody new is let in, and who is in may stay.
        return not isinstance(error, TimeoutError | DatabaseRefusesError)
    # asyncpg says so in words only: "connection is closed", "connection was closed in the middle of operation".
    return isinstance(error, exceptions.InterfaceError) and "closed" in str(error) and "connection" in str(error)


def _without_libpqs_own(dsn: str) -> tuple[str, float]:
    """The DSN as asyncpg understands it, and its `connect_timeout` in seconds; 0 where it has none."""
    parts = urlsplit(dsn)
    options = parse_qsl(parts.query, keep_blank_values=True)
    theirs = {name: value for name, value in options if name in _LIBPQ_ONLY and value != "require"}
    if not theirs:
        return dsn, 0.0
    kept = urlencode([(name, value) for name, value in options if name not in theirs], quote_via=quote)
    seconds = theirs.get("connect_timeout", "")
    return parts._replace(query=kept).geturl(), float(seconds) if seconds.isdecimal() else 0.0


def _needs_a_writable_host(dsn: str) -> bool:
    parts = urlsplit(dsn)
    options = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2].split(",") + ",".join(options.get("host", [])).split(",")
    return "target_session_attrs" not in options and len([host for host in hosts if host]) > 1
