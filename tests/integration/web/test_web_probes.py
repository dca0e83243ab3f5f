"""Health, readiness and metrics as the platform and Prometheus ask for them."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.database.embedded import EmbeddedPostgres
from service.database.pool import Database
from service.telemetry.metrics import REGISTRY, orders_due
from service.web.health import HealthState
from tests.integration.web.internal_port import InternalPort
from tests.support.waiting import until


async def test_ready_until_draining(port: InternalPort) -> None:
    async with port.client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ready", "checks": {"database": True}})
    port.health.drain()
    async with port.client.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (503, "draining")
    async with port.client.get("/healthz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "alive")


async def test_a_stuck_loop_is_not_alive(port: InternalPort) -> None:
    port.health.expect("sync", max_age_seconds=-1)
    async with port.client.get("/healthz") as answer:
        assert answer.status == 503
        assert (await answer.json())["loops"]["sync"]["ok"] is False
    async with port.client.head("/healthz") as answer:
        assert answer.status == 503


@pytest.mark.parametrize(
    ("accept", "media_type", "parse"),
    [
        ("*/*", "text/plain", parse_text),
        ("", "text/plain", parse_text),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text",
            parse_openmetrics,
        ),
    ],
)
async def test_metrics_in_the_format_asked_for(port: InternalPort, accept: str, media_type: str, parse: object) -> None:
    async with port.client.get("/metrics?name[]=x", headers={"Accept": accept}) as answer:
        assert answer.status == 200
        assert answer.content_type == media_type
        text = await answer.text()
    assert callable(parse)
    names = {family.name for family in parse(text)}
    assert {"cuadre_http_requests", "cuadre_notification_seconds"} <= {name.removesuffix("_total") for name in names}


async def test_gauges_of_the_elected_process_show_once_registered(port: InternalPort) -> None:
    async def scrape() -> str:
        async with port.client.get("/metrics") as answer:
            return await answer.text()

    gauge = orders_due
    gauge.set(7)
    assert "cuadre_orders_due" not in await scrape()
    REGISTRY.register(gauge)
    try:
        assert "cuadre_orders_due 7.0" in await scrape()
    finally:
        REGISTRY.unregister(gauge)
        gauge.set(0)
    assert "cuadre_orders_due" not in await scrape()


async def test_readiness_follows_a_database_that_goes_and_comes_back(own_postgres: EmbeddedPostgres) -> None:
    database = await Database.connect(own_postgres.dsn)
    health = HealthState({"database": database.is_writable})
    try:
        assert (await health.ready())[0]
        own_postgres.stop("immediate")
        assert not (await health.ready())[0]
        assert health.alive()[0]
        own_postgres.start()

        async def is_ready() -> bool:
            return (await health.ready())[0]

        await until(is_ready, what="ready again")
    finally:
        await database.close()
