"""The pool: starts without a server, survives its restarts, and drops what a failover made worthless."""

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.database.embedded import EmbeddedPostgres, StopMode
from service.database.pool import (
    CONNECT_TIMEOUT_SECONDS,
    UNAVAILABLE,
    Database,
    DatabaseRefusesError,
    connect_arguments,
)
from service.settings import Settings
from service.telemetry import metrics
from tests.integration.database.conditions import wait_until_async
from tests.shared_postgres import Maintenance


def pool_gauge(state: str) -> float | None:
    return metrics.REGISTRY.get_sample_value("cuadre_db_pool_connections", {"state": state})


async def test_session_settings(database_dsn: str) -> None:
    database = await Database.connect(database_dsn, application_name="cuadre worker", pin_plans=True)
    try:
        wanted = {
            "application_name": "cuadre worker",
            "statement_timeout": "30s",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "3s",
            "jit": "off",
            "TimeZone": "UTC",
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "plan_cache_mode": "auto",
        }
        for name, value in wanted.items():
            assert await database.fetchval("select current_setting($1)", name) == value
    finally:
        await database.close()


async def test_without_a_statement_cache_the_session_is_left_as_it_is(database_dsn: str) -> None:
    database = await Database.connect(database_dsn, statement_cache_size=0, pin_plans=True)
    try:
        assert await database.fetchval("select current_setting('enable_seqscan')") == "on"
        assert await database.fetchval("select current_setting('application_name')") == ""
    finally:
        await database.close()


async def test_who_stands_still_in_a_transaction_loses_its_locks_in_time_for_an_answer(database: Database) -> None:
    ack_timeout_seconds: float = Settings.model_fields["ack_timeout_seconds"].default

    async def stand_still_while_another_has_to_answer() -> None:
        async with database.transaction() as connection:
            await connection.execute("update t set n = 2")
            async with asyncio.timeout(ack_timeout_seconds):
                await database.execute("update t set n = n + 10")
            await connection.execute("update t set n = 3")

    await database.execute("create table t (n integer); insert into t values (1)")
    with pytest.raises(UNAVAILABLE):
        await stand_still_while_another_has_to_answer()
    assert await database.fetchval("select n from t") == 11


async def test_shortcuts_and_transactions(database: Database) -> None:
    assert await database.execute("create table t (n integer)") == "CREATE TABLE"
    assert await database.execute("insert into t values ($1), ($2)", 1, 2) == "INSERT 0 2"
    assert [row["n"] for row in await database.fetch("select n from t order by n")] == [1, 2]
    row = await database.fetchrow("select n from t where n = 2")
    assert row is not None
    assert row["n"] == 2
    assert await database.fetchval("select max(n) from t") == 2
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.transaction() as connection:
            await connection.execute("delete from t; select 1 / 0")
    assert await database.fetchval("select count(*) from t") == 2
    async with database.transaction() as connection:
        await connection.execute("delete from t")
    assert await database.fetchval("select count(*) from t") == 0


async def test_a_transaction_left_open_is_rolled_back(database_dsn: str) -> None:
    database = await Database.connect(database_dsn, max_size=1)
    try:
        await database.execute("create table t (n integer)")
        async with database.acquire() as connection:
            await connection.execute("begin; insert into t values (1)")
        assert await database.fetchval("select count(*) from t") == 0
    finally:
        await database.close()


async def test_the_gauge_tells_idle_from_used(database_dsn: str) -> None:
    database = await Database.connect(database_dsn, min_size=2)
    try:
        async with database.acquire():
            database.report_pool()
            assert (pool_gauge("used"), pool_gauge("idle")) == (1, 1)
        database.report_pool()
        assert (pool_gauge("used"), pool_gauge("idle")) == (0, 2)
    finally:
        await database.close()


async def test_no_connection_free_in_time(database_dsn: str) -> None:
    database = await Database.connect(database_dsn, max_size=1)
    try:
        async with database.acquire() as held:
            first = await held.fetchval("select pg_backend_pid()")
            with pytest.raises(TimeoutError):
                async with database.acquire(timeout_seconds=0.05):
                    pass
        assert await database.fetchval("select pg_backend_pid()") == first, "a full pool is no reason to reconnect"
    finally:
        await database.close()


async def test_closing_cuts_what_does_not_come_back(database_dsn: str) -> None:
    database = await Database.connect(database_dsn)
    async with database.acquire() as held:
        await database.close(0.05)
        with pytest.raises(asyncpg.InterfaceError):
            await held.fetchval("select 1")
    await database.close()


async def test_a_refused_password_is_an_error_at_once(database_dsn: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await Database.connect(database_dsn.replace("postgresql://cuadre:", "postgresql://cuadre:not-"))


async def test_a_malformed_dsn_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="DSN"):
        await Database.connect("mysql://localhost/cuadre")


async def test_of_several_hosts_the_one_that_answers(database_dsn: str) -> None:
    several = database_dsn.replace("host=", "host=%2Fnowhere%2Fat%2Fall,").replace("port=5432", "port=5432,5432")
    database = await Database.connect(several)
    try:
        assert await database.is_writable()
    finally:
        await database.close()


async def test_a_server_that_starts_later(own_postgres: EmbeddedPostgres) -> None:
    dsn = own_postgres.dsn
    await asyncio.to_thread(own_postgres.stop)
    database = await Database.connect(dsn)
    try:
        assert not await database.is_writable()
        with pytest.raises(UNAVAILABLE):
            await database.fetchval("select 1")
        assert await asyncio.to_thread(own_postgres.start) == dsn
        assert await database.fetchval("select 1") == 1
        assert await database.is_writable()
    finally:
        await database.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart(own_postgres: EmbeddedPostgres, mode: StopMode) -> None:
    database = await Database.connect(own_postgres.dsn, min_size=4)
    try:
        async with database.acquire() as held:
            await asyncio.to_thread(own_postgres.stop, mode)
            with pytest.raises(UNAVAILABLE):
                await held.fetchval("select 1")
        assert not await database.is_writable()
        await asyncio.to_thread(own_postgres.start)
        # From here on nothing fails any more: none of the old connections is left in the pool.
        assert await asyncio.gather(*(database.fetchval("select 1") for _ in range(8))) == [1] * 8
    finally:
        await database.close()


async def test_a_demoted_primarys_connections_are_thrown_away(own_postgres: EmbeddedPostgres) -> None:
    async def refused() -> bool:
        try:
            await database.execute("insert into t values (1)")
        except asyncpg.ReadOnlySQLTransactionError:
            return True
        return False

    database = await Database.connect(own_postgres.dsn, min_size=3)
    try:
        await database.execute("create table t (n integer)")
        before = {row["pid"] for row in await database.fetch("select pid from pg_stat_activity")}
        # What a demotion looks like from here: the session lives, and takes no writes.
        await database.execute("alter system set default_transaction_read_only = on")
        await database.execute("select pg_reload_conf()")
        await wait_until_async(refused, "the server takes no writes")
        now = await asyncio.gather(*(database.fetchval("select pg_backend_pid()") for _ in range(3)))
        assert not before & set(now)
        assert not await database.is_writable()
    finally:
        await database.close()


async def test_a_database_that_lets_nobody_in_is_waited_for(database_dsn: str, maintenance: Maintenance) -> None:
    with capture_logs() as lines:
        database = await Database.connect(database_dsn)
        name = await database.fetchval("select current_database()")
        maintenance.execute(f"alter database {name} allow_connections false")
        maintenance.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
        with pytest.raises(UNAVAILABLE):
            await database.fetchval("select 1")
        for _ in range(3):
            with pytest.raises(DatabaseRefusesError, match="not currently accepting"):
                await database.fetchval("select 1")
        begun_meanwhile = await Database.connect(database_dsn)
        maintenance.execute(f"alter database {name} allow_connections true")
        assert await database.fetchval("select 1") == 1
        assert await begun_meanwhile.fetchval("select 1") == 1
        await begun_meanwhile.close()
        await database.close()
    said = [line for line in lines if line["event"] == "database_refuses"]
    assert 1 <= len(said) <= 2, "one line of each pool every five seconds"
    assert said[0]["error"] == "ObjectNotInPrerequisiteStateError"


async def test_who_is_in_stays_when_nobody_new_is_let_in(database_dsn: str, maintenance: Maintenance) -> None:
    database = await Database.connect(database_dsn)
    name = await database.fetchval("select current_database()")
    pid = await database.fetchval("select pg_backend_pid()")
    maintenance.execute(f"alter database {name} allow_connections false")
    async with database.acquire():
        with pytest.raises(DatabaseRefusesError):
            await database.fetchval("select 1")
    assert await database.fetchval("select pg_backend_pid()") == pid
    await database.close()


async def test_what_a_dsn_says_to_libpq_alone_is_not_said_to_the_server(database_dsn: str) -> None:
    more = "connect_timeout=3&keepalives_idle=30&sslsni=0"
    database = await Database.connect(f"{database_dsn}&{more}")
    assert await database.fetchval("select 1") == 1
    await database.close()
    arguments = connect_arguments(f"postgresql://u:p%40ss@one:1,two:2/name?{more}&application_name=a%20b")
    assert arguments["dsn"] == "postgresql://u:p%40ss@one:1,two:2/name?application_name=a%20b"
    assert arguments["timeout"] == 3.0
    assert connect_arguments("postgresql:///name?connect_timeout=0")["timeout"] == CONNECT_TIMEOUT_SECONDS
    demand = "postgresql:///name?channel_binding=require"
    assert connect_arguments(demand)["dsn"] == demand, "a demand of safety is refused by the server, not ignored here"
