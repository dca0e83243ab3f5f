"""Webhooks off, search on: orders that nobody announced are found, stored and certified, with the real worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.audit.completeness import LAG, Certificate, read_certificate
from service.audit.sweep import Sweep
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.simulator.server import SimulatorConfig, create_app
from service.sync.worker import Worker
from tests.support.waiting import until

SHOP = Account("default", access_token="APP_USR-simulator", rate_per_second=500.0)
KINDS = ("qr", "point", "online")
HOURS = 12


@dataclass
class Town:
    """A simulator that announces nothing, a worker, and a sweep that goes round all the time."""

    client: TestClient[web.Request, web.Application]
    database: Database
    sweep: Sweep
    sweeping: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """From now on the list is read, again and again."""
        self.sweeping = asyncio.create_task(self.sweep.run())

    async def tell(self, path: str, body: object) -> Any:
        async with self.client.post(f"/_sim/{path}", json=body) as answer:
            assert answer.status in {200, 201}, await answer.text()
            return await answer.json()

    async def ask(self, path: str) -> Any:
        async with self.client.get(f"/_sim/{path}") as answer:
            assert answer.status == 200
            return await answer.json()

    async def sell(self, number: int, **age: float) -> str:
        """An order created that long ago; every other one is paid, every third of these given back in part."""
        created = datetime.now(UTC) - timedelta(**age)
        spec = {
            "type": KINDS[number % 3],
            "total_amount": "100.00",
            "external_reference": f"v-{number}",
            "created_date": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        order_id: str = (await self.tell("orders", spec))["id"]
        if number % 2:
            await self.tell(f"orders/{order_id}/pay", {})
        if number % 6 == 5:
            await self.tell(f"orders/{order_id}/refund", {"amount": "30.00"})
        return order_id

    async def ledger(self) -> dict[str, Any]:
        return {order["id"]: _without_payer(order) for order in (await self.ask("orders?limit=100000"))["data"]}

    async def stored(self) -> dict[str, Any]:
        rows = await self.database.fetch("select order_id, payload::text as payload from cuadre.orders")
        return {row["order_id"]: _without_payer(json.loads(row["payload"])) for row in rows}

    async def is_equal(self) -> bool:
        return await self.stored() == await self.ledger()

    async def certificate(self) -> Certificate:
        found = await read_certificate(self.database, "default")
        assert found is not None
        return found


def _without_payer(order: dict[str, Any]) -> dict[str, Any]:
    """Who paid is kept only where a setting says so."""
    return {name: value for name, value in order.items() if name != "payer"}


@pytest.fixture
async def town(database: Database) -> AsyncIterator[Town]:
    client = TestClient(TestServer(create_app(SimulatorConfig(seed=7))))
    await client.start_server()
    async with MercadoPagoClient(str(client.make_url("")).rstrip("/")) as api:
        worker = Worker(database, api, concurrency=16, poll_seconds=0.1, lease_seconds=30)
        worker.follow([SHOP])
        sweep = Sweep(
            database,
            api,
            worker.gates,
            "me",
            every_seconds=0.3,
            turn_seconds=0.1,
            lookback=timedelta(hours=HOURS),
            on_marked=worker.wake,
        )
        working = asyncio.create_task(worker.run())
        town = Town(client, database, sweep)
        yield town
        if town.sweeping is not None:
            town.sweeping.cancel()
            await asyncio.gather(town.sweeping, return_exceptions=True)
        await worker.stop(within_seconds=5)
        await working
    await client.close()


async def test_orders_never_announced_are_found_stored_and_certified(town: Town, database: Database) -> None:
    for number in range(240):
        await town.sell(number, minutes=number * 2.9)
    town.begin()
    await until(town.is_equal, what="what is stored equals the provider's ledger", seconds=60)
    assert await database.fetchval("select count(*) from cuadre.notifications") == 0
    assert len(await town.stored()) == 240
    assert await database.fetchval("select count(*) from cuadre.order_versions where cause = 'sweep'") > 0

    async def is_certified() -> bool:
        one = await town.certificate()
        # Within the half hour another one may be over, and have been read before its last orders were.
        return not one.blocked_by and one.complete_until + LAG > datetime.now(UTC) - timedelta(hours=1, minutes=1)

    await until(is_certified, what="every hour that is over is certified")
    certificate = await town.certificate()
    assert (certificate.blocked_by, certificate.last_error, certificate.blind_types) == ((), None, ())


async def test_they_are_found_although_the_list_is_late_and_the_provider_stumbles(town: Town) -> None:
    lost = {"status": 503, "rate": 0.2}
    await town.tell("faults", {"search": lost, "get_order": lost, "me": lost, "indexing_lag_seconds": 3})
    for number in range(60):
        await town.sell(number, minutes=number * 1.8)
    town.begin()
    await until(town.is_equal, what="what is stored equals the provider's ledger", seconds=90)


async def test_a_change_that_nobody_announced_is_found_while_it_is_listed(town: Town) -> None:
    order_id = await town.sell(0, minutes=30)
    town.begin()
    await until(town.is_equal, what="it is stored")
    await town.database.execute("update cuadre.sync set due_at = now() + interval '1 day'")
    await town.tell(f"orders/{order_id}/pay", {"notify": False})
    await until(town.is_equal, what="its payment is stored")
    assert (await town.stored())[order_id]["status"] == "processed"


async def test_an_order_that_cannot_be_stored_blocks_the_certificate_and_is_named(town: Town) -> None:
    await town.sell(0, hours=4)
    town.begin()
    await until(town.is_equal, what="the others are stored")
    broken = await town.sell(1, hours=5)
    await town.tell("faults", {"get_order": {"status": 404, "order_id": broken}})
    await town.database.execute("update cuadre.completeness set complete_until = complete_since")
    await town.database.execute("update cuadre.sweeps set position_at = now() - interval '12 hours'")

    async def is_blocked() -> bool:
        return (await town.certificate()).blocked_by == (broken,)

    await until(is_blocked, what="the certificate names it")
    created = datetime.now(UTC) - timedelta(hours=5)
    assert (await town.certificate()).complete_until <= created
    await town.tell("faults", {"get_order": {}})
    await town.database.execute("update cuadre.sync set due_at = now() where order_id = $1", broken)

    async def is_past() -> bool:
        return (await town.certificate()).complete_until > created

    await until(is_past, what="the certificate goes on")
