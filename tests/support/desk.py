"""The desk at work against the real simulator: its runner, a sync worker, and the provider, all in this process."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from service.database.pool import Database
from service.desk.desk import Desk
from service.desk.intents import CommandRow
from service.desk.runner import Runner
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.simulator.server import SimulatorConfig, create_app
from service.sync.claims import mark_order_due
from service.sync.worker import Worker
from tests.support.waiting import until

ACCOUNT = Account("default", user_id="2100457788", access_token="APP_USR-simulator", rate_per_second=10_000)
LEASE_SECONDS = 30.0


def qr(reference: str = "venta-1", amount: str = "100.00", **fields: Any) -> dict[str, Any]:
    """A body of `POST /v1/orders` for a QR."""
    return {
        "type": "qr",
        "total_amount": amount,
        "external_reference": reference,
        "config": {"qr": {"external_pos_id": "CAJA1", "mode": "static"}},
        "transactions": {"payments": [{"amount": amount}]},
    } | fields


def point(reference: str = "venta-1", amount: str = "100.00", terminal: str = "PAX_A910__1") -> dict[str, Any]:
    """The same for a Point terminal."""
    return {
        "type": "point",
        "external_reference": reference,
        "config": {"point": {"terminal_id": terminal}},
        "transactions": {"payments": [{"amount": amount}]},
    }


@dataclass
class Provider:
    """A live simulator by its control API."""

    url: str
    session: aiohttp.ClientSession

    async def tell(self, path: str, body: object) -> Any:
        async with self.session.post(f"{self.url}/_sim/{path}", json=body) as response:
            answer = await response.json()
            assert response.status < 300, (path, response.status, answer)
            return answer

    async def ask(self, path: str) -> Any:
        async with self.session.get(f"{self.url}/_sim/{path}") as response:
            assert response.status == 200, path
            return json.loads(await response.text())

    async def faults(self, **faults: Any) -> None:
        """These instead of what was in force; none: nothing goes wrong."""
        await self.tell("faults", faults | {"replace": True})

    async def orders(self) -> dict[str, dict[str, Any]]:
        """The ledger: orders by id."""
        return {order["id"]: order for order in (await self.ask("orders?limit=10000"))["data"]}

    async def refunds(self, order_id: str) -> list[dict[str, Any]]:
        """An order's refunds as the provider has them."""
        order = await self.ask(f"orders/{order_id}")
        found: list[dict[str, Any]] = order["transactions"].get("refunds", [])
        return found

    async def calls(self) -> Counter[tuple[str, int | None]]:
        """How often each operation was answered how."""
        log = (await self.ask("requests?limit=20000"))["data"]
        return Counter((one["operation"], one["status"]) for one in log)


@dataclass
class Shop:
    """A desk with all it needs. `account` may be replaced; `runner` and `worker` run unless they were not wanted."""

    database: Database
    provider: Provider
    client: MercadoPagoClient
    worker: Worker
    runner: Runner
    desk: Desk
    accounts: dict[str, Account]
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def another_runner(self, **settings: Any) -> Runner:
        """One more, not started, as another process would have it."""
        return make_runner(self.database, self.client, self.worker, self.accounts, **settings)

    async def settled(self, command: CommandRow, *, seconds: float = 20.0) -> CommandRow:
        """The command once it is settled, with no waiting in between: what is due later is due now."""

        async def once() -> CommandRow | None:
            await self.hurry()
            found = await self.desk.find(command.command_id)
            return found if found is not None and found.is_settled else None

        result = await until(once, what=f"{command.kind} is settled", seconds=seconds)
        assert result is not None
        return result

    async def becomes(self, command: CommandRow, **expected: Any) -> CommandRow:
        """The command once these columns have these values."""

        async def once() -> CommandRow | None:
            found = await self.desk.find(command.command_id)
            assert found is not None
            return found if all(getattr(found, name) == value for name, value in expected.items()) else None

        result = await until(once, what=f"{command.kind} becomes {expected}")
        assert result is not None
        return result

    async def hurry(self) -> None:
        """Whatever commands and looks are due later are due now."""
        await self.database.execute("update cuadre.commands set due_at = now() where due_at > now()")
        await self.database.execute(
            "update cuadre.sync set due_at = now() where fetched < requested and due_at > now()"
        )
        self.runner.wake()
        self.worker.wake()

    async def know(self, order_id: str) -> dict[str, Any]:
        """Has the order read and stored as it is now at the provider; its row."""
        generation = await mark_order_due(self.database, order_id, "default")
        self.worker.wake()

        async def stored() -> dict[str, Any] | None:
            row = await self.database.fetchrow(
                "select o.* from cuadre.orders as o join cuadre.sync as s using (order_id) "
                "where o.order_id = $1 and s.fetched >= $2",
                order_id,
                generation,
            )
            return dict(row) if row else None

        result = await until(stored, what=f"{order_id} is stored")
        assert result is not None
        return result

    async def sell(self, reference: str = "venta-1", amount: str = "100.00") -> str:
        """A paid order that the provider has and we know; its id."""
        order = await self.provider.tell(
            "orders", {"type": "qr", "total_amount": amount, "external_reference": reference, "status": "processed"}
        )
        order_id: str = order["id"]
        await self.know(order_id)
        return order_id


def make_runner(
    database: Database, client: MercadoPagoClient, worker: Worker, accounts: dict[str, Account], **settings: Any
) -> Runner:
    """A runner that shares the worker's gates."""
    usual: dict[str, Any] = {
        "account": accounts.get,
        "gate": worker.gates.gate,
        "poll_seconds": 0.05,
        "lease_seconds": LEASE_SECONDS,
        "on_committed": worker.wake,
    }
    return Runner(database, client, **(usual | settings))


@asynccontextmanager
async def shop(
    database: Database,
    *,
    runner: bool = True,
    worker: bool = True,
    account: Account = ACCOUNT,
    client_timeout_seconds: float = 5.0,
    wrap: Callable[[MercadoPagoClient], MercadoPagoClient] = lambda client: client,
    **config: Any,
) -> AsyncIterator[Shop]:
    """Opens a shop until the block ends. `wrap` may put itself between the runner and the client."""
    # As in production, a handler goes on when its caller is gone.
    server = web.AppRunner(create_app(SimulatorConfig(**config)), access_log=None, shutdown_timeout=0.1)
    async with contextlib.AsyncExitStack() as stack:
        await server.setup()
        stack.push_async_callback(server.cleanup)
        await web.TCPSite(server, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{server.addresses[0][1]}"
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = await stack.enter_async_context(MercadoPagoClient(url, total_timeout_seconds=client_timeout_seconds))
        accounts = {account.name: account}
        sync = Worker(database, client, concurrency=8, poll_seconds=0.05, lease_seconds=LEASE_SECONDS)
        sync.follow(accounts.values())
        executor = make_runner(database, wrap(client), sync, accounts)
        one = Shop(
            database,
            Provider(url, session),
            client,
            sync,
            executor,
            Desk(database, accounts.get, wake=executor.wake),
            accounts,
        )
        if worker:
            one.tasks["sync"] = asyncio.create_task(sync.run())
        if runner:
            one.tasks["desk"] = asyncio.create_task(executor.run())
        try:
            yield one
        finally:
            await executor.stop(within_seconds=5)
            await sync.stop(within_seconds=5)
            for task in one.tasks.values():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait_for(task, 5)
