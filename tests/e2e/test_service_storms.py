"""The whole service as processes, on bad days: killed, replicated, cut off from its database and from the provider.

At the end of each day what is stored equals the provider's ledger, and nothing that was acknowledged is missing.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.database.embedded import EmbeddedPostgres
from tests.support.processes import Service, Simulator, call, free_port, serving, simulator
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow
ORDERS = 60
APPLIED = 'cuadre_sync_seconds_count{stage="apply"}'


def query(dsn: str, text: str, *arguments: Any) -> list[Any]:
    """Runs one query on a connection of its own."""

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(text, *arguments))
        finally:
            await connection.close()

    return asyncio.run(ask())


def stored(dsn: str) -> dict[str, Any]:
    return {
        row["order_id"]: json.loads(row["payload"]) for row in query(dsn, "select order_id, payload from cuadre.orders")
    }


def assert_converges(dsn: str, provider: Simulator, *, seconds: float = 60) -> None:
    """What is stored becomes the ledger, with gap-free versions, and the books of what was told are complete."""
    ledger = provider.ledger()
    acknowledged = provider.acknowledged()

    def equal() -> bool:
        return stored(dsn) == ledger

    def differing() -> str:
        here = stored(dsn)
        return f"{sum(here.get(key) != body for key, body in ledger.items())} of {len(ledger)} differ"

    try:
        until_sync(equal, what="stored equals the ledger", seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; {differing()}") from None
    gaps = query(dsn, """
        select o.order_id from cuadre.orders as o left join cuadre.order_versions as v using (order_id)
        group by o.order_id, o.version
        having count(v.version) <> o.version or max(v.version) <> o.version or min(v.version) <> 1
    """)  # fmt: skip
    assert gaps == []
    twice = query(dsn, """
        select order_id, version from cuadre.events where type = 'order.changed'
        group by order_id, version having count(*) <> 1
    """)  # fmt: skip
    assert twice == []
    (told,) = query(dsn, "select coalesce(sum(copies), 0) as deliveries from cuadre.notifications")
    assert told["deliveries"] >= acknowledged, "an acknowledged notification is missing"
    assert query(dsn, "select 1 from cuadre.discrepancies where resolved_at is null") == []


def sell_all(provider: Simulator, orders: int = ORDERS) -> None:
    """A busy hour in a few seconds, from several tills."""
    with ThreadPoolExecutor(6) as tills:
        list(tills.map(provider.sell, range(orders)))


def while_selling(provider: Simulator, meanwhile: Callable[[], None], orders: int = ORDERS) -> None:
    """Something happens in the middle of the busy hour."""
    with ThreadPoolExecutor(1) as shop:
        sold = shop.submit(sell_all, provider, orders)
        until_sync(lambda: len(provider.ledger()) > orders // 4 or sold.done(), what="the shop is busy")
        meanwhile()
        sold.result(60)


def until_more_is_stored(dsn: str) -> None:
    """The service has applied something since now."""
    known = len(stored(dsn))
    until_sync(lambda: len(stored(dsn)) > known, what="it works")


NOISE = {
    "get_order": [{"status": 503, "rate": 0.03}, {"status": 429, "rate": 0.02, "retry_after": 0}],
    "notification": {
        "duplicate": 0.2,
        "duplicate_gap_ms": 200,
        "delay_ms": 300,
        "reorder": 0.1,
        "reorder_hold_ms": 300,
    },
}


def test_killed_in_the_middle_of_a_storm_and_restarted(tmp_path: Path, database_dsn: str) -> None:
    # Invariant I7. The notifications that come while nobody is there are sent again by the provider.
    public_port = free_port()
    with simulator(tmp_path, webhook_port=public_port) as provider:
        provider.tell("faults", NOISE)

        def killed_twice() -> None:
            for number in range(2):
                with serving(
                    tmp_path, database_dsn, provider.url, public_port=public_port, name=f"life-{number}"
                ) as one:
                    known = len(stored(database_dsn))
                    until_sync(lambda known=known: len(stored(database_dsn)) > known, what="it works")  # type: ignore[misc]  # a default binds the loop's value
                    one.process.kill()

        while_selling(provider, killed_twice)
        with serving(tmp_path, database_dsn, provider.url, public_port=public_port, name="last-life"):
            assert_converges(database_dsn, provider)


def test_two_replicas_on_one_database(tmp_path: Path, database_dsn: str) -> None:
    port = free_port()
    with (
        simulator(tmp_path, webhook_port=port) as provider,
        serving(tmp_path, database_dsn, provider.url, public_port=port, name="first") as first,
        serving(tmp_path, database_dsn, provider.url, name="second", role="worker") as second,
    ):
        provider.tell("faults", NOISE)
        sell_all(provider)
        assert_converges(database_dsn, provider)
        pages = [service.get("/metrics")[1] for service in (first, second)]
        told = [page.count("# TYPE cuadre_orders_due gauge") for page in pages]
        assert sorted(told) == [0, 1], "gauges of the database come from one process, so that sums are right"
        applied = [float(line.split()[-1]) for page in pages for line in page.splitlines() if line.startswith(APPLIED)]
        assert len([count for count in applied if count > 0]) == 2, "both worked"


def test_postgres_restarted_under_load(tmp_path: Path, own_postgres: EmbeddedPostgres) -> None:
    public_port = free_port()
    with simulator(tmp_path, webhook_port=public_port) as provider:
        arguments = ("--migrate",)
        with serving(tmp_path, own_postgres.dsn, provider.url, public_port=public_port, arguments=arguments) as service:

            def restarted() -> None:
                own_postgres.stop("immediate")
                until_sync(lambda: service.get("/readyz")[0] == 503, what="it says that it is not ready")
                assert service.get("/healthz")[0] == 200, "alive, whatever the database does"
                own_postgres.start()
                until_sync(service.is_ready, what="it recovers by itself")

            while_selling(provider, restarted)
            assert_converges(own_postgres.dsn, provider)
            assert "Traceback" not in service.process.output()


def test_a_provider_outage(tmp_path: Path, database_dsn: str) -> None:
    public_port = free_port()
    with (
        simulator(tmp_path, webhook_port=public_port) as provider,
        serving(tmp_path, database_dsn, provider.url, public_port=public_port) as service,
    ):
        provider.tell("faults", {"get_order": {"status": 500}})
        sell_all(provider, 40)

        def is_paused() -> bool:
            return 'cuadre_api_paused{account="default"} 1.0' in service.get("/metrics")[1]

        until_sync(is_paused, what="the operator sees the pause")
        assert stored(database_dsn) == {}
        (burned,) = query(database_dsn, "select max(attempts) as most from cuadre.sync where leased_until is null")
        assert burned["most"] == 0
        provider.tell("faults", {})
        assert_converges(database_dsn, provider)


def test_without_any_notification_open_orders_still_converge(tmp_path: Path, database_dsn: str) -> None:
    # Invariant I4: known orders are looked at by schedule.
    public_port = free_port()
    with (
        simulator(tmp_path, webhook_port=public_port) as provider,
        serving(tmp_path, database_dsn, provider.url, public_port=public_port) as service,
    ):
        order_id = provider.tell("orders", {"type": "qr", "total_amount": "80.00"})["id"]
        status, _ = call_sync(service, order_id)
        assert status == 202
        until_sync(lambda: order_id in stored(database_dsn), what="it is stored")
        provider.tell("faults", {"notification": {"drop": 1}})
        provider.tell(f"orders/{order_id}/pay", {})
        assert_converges(database_dsn, provider)
        causes = query(database_dsn, "select cause from cuadre.order_versions order by version")
        assert [row["cause"] for row in causes] == ["operator", "look"]


def call_sync(service: Service, order_id: str) -> tuple[int, Any]:
    return call(f"http://127.0.0.1:{service.internal_port}/api/v1/orders/{order_id}/sync", {})
