"""How `cuadre serve` begins and ends, and what it never says."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from service.database.embedded import EmbeddedPostgres
from tests.shared_postgres import Maintenance
from tests.support.processes import SECRET, TOKEN, Simulator, call, free_port, frozen, serving, simulator
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow


def test_it_ends_with_1_on_a_missing_schema(tmp_path: Path, empty_dsn: str) -> None:
    with serving(tmp_path, empty_dsn, "http://127.0.0.1:9", ready=False) as service:
        assert service.process.wait() == 1
        assert "cuadre migrate" in service.process.output()
        assert "Traceback" not in service.process.output()


def execute(dsn: str, statement: str) -> None:
    """As somebody else would."""

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def test_it_ends_with_1_on_an_unknown_schema(tmp_path: Path, database_dsn: str) -> None:
    execute(
        database_dsn,
        "insert into cuadre.schema_migrations (number, name, checksum, duration) values (999, 'later', 'x', '1 s')",
    )
    with serving(tmp_path, database_dsn, "http://127.0.0.1:9", ready=False) as service:
        assert service.process.wait() == 1
        assert "later" in service.process.output() or "unknown" in service.process.output()


def test_the_next_versions_migration_does_not_take_a_running_process_out_of_service(
    tmp_path: Path, database_dsn: str
) -> None:
    # Upgrading is: migrate, then replace the processes one after the other.
    with serving(tmp_path, database_dsn, "http://127.0.0.1:9") as service:
        later = (
            "insert into cuadre.schema_migrations (number, name, checksum, duration) "
            "select max(number) + 1, 'later', 'x', '1 s' from cuadre.schema_migrations"
        )
        execute(database_dsn, later)
        assert service.get("/readyz")[0] == 200
        execute(database_dsn, "update cuadre.schema_migrations set checksum = 'another' where number = 1")
        assert service.get("/readyz")[0] == 503
    with serving(tmp_path, database_dsn, "http://127.0.0.1:9", ready=False) as service:
        assert service.process.wait() == 1


def test_it_waits_for_a_database_that_is_down(tmp_path: Path, own_postgres: EmbeddedPostgres) -> None:
    dsn = own_postgres.dsn
    own_postgres.stop()
    with serving(tmp_path, dsn, "http://127.0.0.1:9", arguments=("--migrate",), ready=False) as service:
        until_sync(lambda: service.get("/healthz")[0] == 200, what="it is alive")
        assert service.get("/readyz")[0] == 503
        url = f"http://127.0.0.1:{service.public_port}/webhooks/mercadopago?type=order&data.id=ORD{1:026d}"
        assert call(url, {}) == (503, {"status": "unavailable"})
        own_postgres.start()
        until_sync(service.is_ready, what="it begins by itself")
        assert call(url, {}) == (200, {"status": "recorded"})
        assert service.process.output().count("waiting_for_database") >= 1


def test_it_waits_for_a_database_that_lets_nobody_in(
    tmp_path: Path, database_dsn: str, maintenance: Maintenance
) -> None:
    name = database_dsn.split("?", maxsplit=1)[0].rpartition("/")[2]

    def shut() -> None:
        maintenance.execute(f"alter database {name} allow_connections false")
        maintenance.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")

    shut()
    with serving(tmp_path, database_dsn, "http://127.0.0.1:9", arguments=("--migrate",), ready=False) as service:
        url = f"http://127.0.0.1:{service.public_port}/webhooks/mercadopago?type=order&data.id=ORD{1:026d}"
        for _ in range(2):  # from its beginning, and in the middle of its work
            until_sync(lambda: service.get("/healthz")[0] == 200, what="it is alive")
            until_sync(lambda: service.get("/readyz")[1]["status"] == "not_ready", what="and not ready")
            assert call(url, {}) == (503, {"status": "unavailable"})
            assert service.get("/api/v1/orders")[0] == 503
            until_sync(lambda: "database_refuses" in service.process.output(), what="it says why")
            maintenance.execute(f"alter database {name} allow_connections true")
            until_sync(service.is_ready, what="it goes on by itself")
            assert call(url, {}) == (200, {"status": "recorded"})
            shut()
        assert "Traceback" not in service.process.output()


def test_sigterm_drains_and_ends_with_0(tmp_path: Path, database_dsn: str) -> None:
    with simulator(tmp_path, webhook_port=free_port()) as provider:
        # Every fetch hangs, so there is something in flight to finish or release.
        provider.tell("faults", {"get_order": {"body": "hang"}})
        with serving(tmp_path, database_dsn, provider.url, drain_seconds="2") as service:
            url = f"http://127.0.0.1:{service.public_port}/webhooks/mercadopago?type=order&data.id=ORD{1:026d}"
            assert call(url, {})[0] == 200
            until_sync(lambda: leased(database_dsn) == 1, what="a fetch is in flight")
            began = time.monotonic()
            service.process.terminate()
            until_sync(lambda: service.get("/readyz")[0] == 503, what="not ready at once")
            assert call(url, {}) == (200, {"status": "recorded"}), "requests are still taken while it drains"
            assert service.process.wait(25) == 0
            assert time.monotonic() - began < 25
            assert leased(database_dsn) == 0
            assert attempts(database_dsn) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the server's processes")
def test_sigterm_ends_in_time_even_with_a_frozen_database(tmp_path: Path, own_postgres: EmbeddedPostgres) -> None:
    assert own_postgres.pid is not None
    arguments = ("--migrate",)
    with (
        simulator(tmp_path, webhook_port=free_port()) as provider,
        serving(tmp_path, own_postgres.dsn, provider.url, drain_seconds="1", arguments=arguments) as service,
    ):
        url = f"http://127.0.0.1:{service.public_port}/webhooks/mercadopago?type=order&data.id=ORD{1:026d}"
        assert call(url, {})[0] == 200
        with frozen(own_postgres.pid):
            assert call(url, {})[0] == 503
            service.process.terminate()
            assert service.process.wait(25) == 0, "the contract's 25 seconds"


def test_ctrl_c_does_not_wait(tmp_path: Path, database_dsn: str) -> None:
    with serving(tmp_path, database_dsn, "http://127.0.0.1:9", drain_seconds="20") as service:
        service.process.tied.send_signal(signal.SIGINT)
        assert service.process.wait(10) == 0


FAULTS = [
    {"status": 401}, {"status": 403}, {"status": 500}, {"status": 404}, {"status": 400}, {"body": "garbage"},
    {"body": "html"}, {"body": "foreign"}, {"body": "disconnect"}, {"body": "truncated"},
]  # fmt: skip
QUERIES = ("", "?type=order", "?type=order&data.id=%00", f"?type=order&data.id=ORD1&token={TOKEN}")


def test_no_secret_is_ever_said(tmp_path: Path, own_postgres: EmbeddedPostgres) -> None:
    # Invariant I9, through every error path that an outside failure can take. Each fault meets a token of its own:
    # a changed accounts file opens a paused account's gate at once.
    password = own_postgres.dsn.partition("://")[2].partition("@")[0].partition(":")[2]
    accounts, port = tmp_path / "accounts.json", free_port()
    write_account(accounts, TOKEN)
    said = []
    with (
        simulator(tmp_path, webhook_port=port) as provider,
        serving(
            tmp_path, own_postgres.dsn, provider.url, public_port=port, arguments=("--migrate",), log_level="debug",
            accounts_file=str(accounts),
        ) as service,
    ):  # fmt: skip
        url = f"http://127.0.0.1:{service.public_port}/webhooks/mercadopago"
        for number, fault in enumerate(FAULTS):
            write_account(accounts, f"{TOKEN}{number}")
            service.process.tied.send_signal(signal.SIGHUP)
            provider.tell("faults", {"get_order": fault})
            order_id = provider.tell("orders", {"status": "processed", "notify": False})["id"]
            call(f"http://127.0.0.1:{service.internal_port}/api/v1/orders/{order_id}/sync", {})
            until_asked_for(provider, order_id)
            said.append(call(f"http://127.0.0.1:{service.internal_port}/api/v1/orders/{order_id}/timeline")[1])
        said.extend(call(url + query, {"data": {"id": SECRET}})[1] for query in QUERIES)
        own_postgres.stop("immediate")
        said.append(call(url + "?type=order&data.id=1", {})[1])
        said.append(service.get("/api/v1/orders")[1])
        said.append(service.get("/readyz")[1])
        own_postgres.start()
        said.append(service.get("/metrics")[1])
        service.process.terminate()
        assert service.process.wait(25) == 0
        everything = json.dumps(said) + service.process.output()
    assert "get_order" in everything, "the faults were met"
    for secret in (password, TOKEN, SECRET, "Bearer "):
        assert secret not in everything, secret


def write_account(path: Path, token: str) -> None:
    account = {"name": "default", "access_token": token, "webhook_secrets": [SECRET], "rate_per_second": 200}
    path.write_text(json.dumps([account]))


def until_asked_for(provider: Simulator, order_id: str) -> None:
    """The provider was asked for the order."""

    def asked() -> bool:
        return any(order_id in one["path"] for one in provider.ask("requests?limit=1000")["data"])

    until_sync(asked, what="the fault was met", seconds=40)


def leased(dsn: str) -> int:
    return number(dsn, "select count(*) from cuadre.sync where leased_until > now()")


def attempts(dsn: str) -> int:
    return number(dsn, "select coalesce(max(attempts), 0) from cuadre.sync")


def number(dsn: str, query: str) -> int:
    async def ask() -> int:
        connection = await asyncpg.connect(dsn)
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()

    return asyncio.run(ask())
