"""`cuadre serve`: puts the rooms together, runs them, and ends them in order.

Start: both ports open at once (health answers, webhooks are answered 503 until the database is there), then the
schema is checked, then the worker begins. End: not ready at once, requests are taken for the drain time, the
listeners close, what is in flight finishes, leases are released; all within 25 seconds.
"""

import asyncio
import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from service import __version__
from service.accounts import AccountBook, AccountsFile
from service.cli.failures import CommandError
from service.cli.working_rooms import WorkingRooms
from service.database.migrations import MigrationError, SchemaState, migrate, schema_state
from service.database.pool import UNAVAILABLE, Database
from service.desk.desk import Desk
from service.intake.receive import Intake
from service.intake.record import NotificationRecorder
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.settings import Settings
from service.sync.claims import mark_order_due
from service.telemetry import metrics
from service.web.health import HealthState
from service.web.internal import create_internal_app
from service.web.keys import KeyRing, follow_keys
from service.web.public import create_public_app
from service.web.runner import PublicRunner

DATABASE_WAIT_SECONDS = 5.0
# From SIGTERM to the last connection; under the 25 seconds that the contract promises, whatever the database does.
END_SECONDS = 22.0
CLOSE_SECONDS = 0.5
LAST_RESORT_SECONDS = 24.0
# Requests under way when the listeners close have this long; an answer is due within the acknowledgement's time-out.
REQUESTS_SECONDS = 4.0
LAG_EVERY_SECONDS = 1.0
# Well past any pause of a healthy loop; a loop this late is stuck, and a restart is the cure.
LOOP_MAX_AGE_SECONDS = 60.0

log = structlog.get_logger(__name__)


class UnusableSchemaError(Exception):
    """The database's schema is not this build's: `str()` says what to do."""


@dataclass
class _Running:
    """What has to be ended, in the order it was begun."""

    work_database: Database
    recorder: NotificationRecorder
    desk: Desk
    rooms: WorkingRooms | None
    runners: list[web.AppRunner] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


async def serve(settings: Settings, *, migrate_first: bool) -> int:
    """Runs until SIGTERM or SIGINT; 0 after an orderly end, 1 where the schema cannot be used or a loop broke."""
    metrics.build_info.labels(__version__).set(1)
    stopping, fast = asyncio.Event(), asyncio.Event()
    accounts = AccountsFile(settings)
    _on_signals(stopping, fast, accounts.ask)
    if settings.database_url is None:
        raise UnusableSchemaError("CUADRE_DATABASE_URL is not set: name the Postgres database to keep orders in")
    dsn = settings.database_url.get_secret_value()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            MercadoPagoClient(settings.mercadopago_url, max_connections=max(100, settings.sync_concurrency))
        )
        databases = [
            await _connect(dsn, settings, size, name, pin_plans=pin)
            for size, name, pin in ((2, "intake", True), (8, "sync", True), (4, "desk", False), (4, "api", False))
        ]
        for database in databases:
            stack.push_async_callback(database.close, CLOSE_SECONDS)
        health = HealthState({"database": databases[1].is_writable, "schema": _schema_check(databases[1])})
        running = _assemble(settings, databases, client, health, accounts)
        try:
            await _listen(settings, running, databases[3], health, accounts)
            return await _run(settings, running, dsn, health, accounts, stopping, fast, migrate_first)
        finally:
            await _end_quietly(running)


async def _connect(dsn: str, settings: Settings, size: int, name: str, *, pin_plans: bool) -> Database:
    return await Database.connect(
        dsn,
        statement_cache_size=settings.database_statement_cache,
        max_size=size,
        application_name=f"cuadre {name}",
        pin_plans=pin_plans,
    )


def _assemble(
    settings: Settings,
    databases: list[Database],
    client: MercadoPagoClient,
    health: HealthState,
    accounts: AccountsFile,
) -> _Running:
    intake_database, work_database, desk_database, _ = databases
    rooms = None
    if settings.role in {"all", "worker"}:
        rooms = WorkingRooms(settings, work_database, desk_database, client, lambda: accounts.current, health)
    recorder = NotificationRecorder(intake_database, on_committed=rooms.worker.wake if rooms else _nothing)

    def account(name: str) -> Account | None:
        return accounts.current.by_name(name)

    desk = Desk(desk_database, account, wake=rooms.runner.wake if rooms else _nothing)
    return _Running(work_database, recorder, desk, rooms)


def _nothing() -> None:
    """A web process leaves the waking to the workers' polls."""


async def _listen(
    settings: Settings, running: _Running, read_database: Database, health: HealthState, accounts: AccountsFile
) -> None:
    """Opens the ports. They answer from the first moment on, whatever the database does."""

    async def mark_due(order_id: str, account: str) -> None:
        await mark_order_due(running.work_database, order_id, account)
        if running.rooms is not None:
            running.rooms.worker.wake()

    keys = follow_keys(settings)
    internal = create_internal_app(
        read_db=read_database,
        mark_due=mark_due,
        health=health,
        accounts=lambda: accounts.current,
        keys=lambda: keys.current,
        desk=running.desk,
    )
    await _open(running, internal, settings.internal_host, settings.internal_port, "internal")
    if settings.role in {"all", "web"}:
        intake = Intake(running.recorder, lambda: accounts.current, ack_timeout_seconds=settings.ack_timeout_seconds)
        public = create_public_app(intake, read_timeout_seconds=settings.ack_timeout_seconds)
        await _open(running, public, settings.public_host, settings.public_port, "public")
    running.tasks.append(asyncio.create_task(keys.watch(_keys_changed), name="api keys"))


def _keys_changed(ring: KeyRing) -> None:
    log.info("api_keys_changed", keys=[key.name for key in ring.keys])


async def _open(running: _Running, app: web.Application, host: str, port: int, name: str) -> None:
    kind = PublicRunner if name == "public" else web.AppRunner
    # Bodies are taken as they come: a delivery with a Content-Encoding is refused, not unpacked.
    runner = kind(app, access_log=None, shutdown_timeout=REQUESTS_SECONDS, auto_decompress=False)
    await runner.setup()
    running.runners.append(runner)
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, UnicodeError) as error:
        raise CommandError(cannot_listen(error, host, port, name)) from error
    log.info("listening", app=name, host=host, port=runner.addresses[0][1])


def cannot_listen(error: OSError | UnicodeError, host: str, port: int, name: str) -> str:
    """One line: where, why, and which setting to change. A host that is none fails in many ways, a port in few."""
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        why, advice = "the port is taken", f"end what listens there, or choose another CUADRE_{name.upper()}_PORT"
    elif code == errno.EACCES:
        why, advice = "not allowed", f"choose a CUADRE_{name.upper()}_PORT above 1023"
    else:
        # asyncio wraps the system's words for an address in its own; a name that is not found has words of its own.
        own = getattr(error, "strerror", None) or "no host name"
        why = os.strerror(code) if code is not None and code > 0 else own
        advice = f"CUADRE_{name.upper()}_HOST must be an address of this machine, or 0.0.0.0 for all"
    return f"cannot listen on {host}:{port} ({why}); {advice}"


async def _run(
    settings: Settings,
    running: _Running,
    dsn: str,
    health: HealthState,
    accounts: AccountsFile,
    stopping: asyncio.Event,
    fast: asyncio.Event,
    migrate_first: bool,
) -> int:
    begin = asyncio.create_task(_prepare_schema(running.work_database, dsn, migrate_first))
    running.tasks.append(begin)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([begin, stop], return_when=asyncio.FIRST_COMPLETED)
    if begin.done():
        begin.result()
        _start_loops(running, health, accounts)
    else:
        begin.cancel()
    await asyncio.wait(
        [stop, *(task for task in running.tasks if task is not begin)], return_when=asyncio.FIRST_COMPLETED
    )
    broken = [task for task in running.tasks if task is not begin and task.done() and not task.cancelled()]
    for task in broken:
        log.error("loop_ended", loop=task.get_name(), exc_info=task.exception())
    stop.cancel()
    await _drain(settings, running, health, fast)
    return 1 if broken else 0


def _start_loops(running: _Running, health: HealthState, accounts: AccountsFile) -> None:
    def accounts_changed(book: AccountBook) -> None:
        log.info("accounts_changed", accounts=[account.name for account in book])
        if running.rooms is not None:
            running.rooms.follow(book)

    loops: dict[str, Awaitable[None]] = {"accounts": accounts.watch(accounts_changed), "lag": _measure(running, health)}
    health.expect("event_loop", max_age_seconds=LOOP_MAX_AGE_SECONDS)
    if running.rooms is not None:
        loops |= running.rooms.begin()
    running.tasks.extend(asyncio.create_task(_awaited(loop), name=name) for name, loop in loops.items())


async def _awaited(loop: Awaitable[None]) -> None:
    await loop


async def _prepare_schema(database: Database, dsn: str, migrate_first: bool) -> None:
    """Waits for a database that is down; raises `UnusableSchemaError` for a schema that is not this build's."""
    while True:
        try:
            if migrate_first:
                await database.fetchval("select 1")  # the pool tells a closed database from one that refuses for good
                await migrate(dsn, on_progress=lambda text: log.info("migrating", step=text))
            async with database.acquire() as connection:
                state = await schema_state(connection)
            break
        except UNAVAILABLE as error:
            log.warning(
                "waiting_for_database", error=type(error).__name__, advice="look at CUADRE_DATABASE_URL and the server"
            )
            await asyncio.sleep(DATABASE_WAIT_SECONDS)
        except MigrationError as error:
            raise UnusableSchemaError(str(error)) from None
    if state.state != "current":
        raise UnusableSchemaError(state.advice)
    log.info("ready", version=__version__)


def _schema_check(database: Database) -> Callable[[], Awaitable[bool]]:
    async def may_go_on() -> bool:
        async with database.acquire() as connection:
            state: SchemaState = await schema_state(connection)
        return state.may_go_on

    return may_go_on


async def _measure(running: _Running, health: HealthState) -> None:
    """How late the event loop wakes up, and what the pools hold."""
    while True:
        due = time.monotonic() + LAG_EVERY_SECONDS
        await asyncio.sleep(LAG_EVERY_SECONDS)
        metrics.event_loop_lag_seconds.set(max(0.0, time.monotonic() - due))
        running.work_database.report_pool()
        health.beat("event_loop")


async def _drain(settings: Settings, running: _Running, health: HealthState, fast: asyncio.Event) -> None:
    finish_by = time.monotonic() + END_SECONDS
    _end_in_any_case()
    health.drain()
    log.info("draining", seconds=settings.drain_seconds)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_seconds):
            await fast.wait()
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(1.0, finish_by - time.monotonic())):
            await asyncio.gather(*(runner.cleanup() for runner in running.runners))
            await running.recorder.close()
            if running.rooms is not None:
                await running.rooms.stop(running.tasks, fast=fast.is_set(), finish_by=finish_by)
    except TimeoutError:
        log.warning("ended_unfinished", advice="leases left behind run out by themselves; look at the database")
    log.info("stopped")


def _end_in_any_case() -> None:
    """The last resort: closing a connection to a server that is frozen waits for it, and no time limit reaches there.

    Leases run out by themselves and nothing that was acknowledged is pending, so ending here loses nothing.
    """

    def end() -> None:
        sys.stdout.flush()
        os._exit(0)

    timer = threading.Timer(LAST_RESORT_SECONDS, end)
    timer.daemon = True
    timer.start()


async def _end_quietly(running: _Running) -> None:
    """Whatever is left, after an orderly end or a failed start."""
    for task in running.tasks:
        task.cancel()
    await asyncio.gather(*running.tasks, return_exceptions=True)
    for runner in running.runners:
        await runner.cleanup()


def _on_signals(stopping: asyncio.Event, fast: asyncio.Event, reload: Callable[[], None]) -> None:
    """SIGTERM drains; SIGINT (somebody at the keyboard) and a second SIGTERM do not wait; SIGHUP rereads accounts."""

    def terminate() -> None:
        if stopping.is_set():
            fast.set()
        stopping.set()

    def interrupt() -> None:
        fast.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGHUP, reload)
