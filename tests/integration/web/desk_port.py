"""The internal port with a desk behind it: the real runner and worker, and the simulator as the provider."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.accounts import AccountBook
from service.database.pool import Database
from service.desk.desk import Desk
from service.desk.runner import Runner
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.simulator.server import SimulatorConfig, create_app
from service.sync.claims import mark_order_due
from service.sync.worker import Worker
from service.web.health import HealthState
from service.web.internal import create_internal_app
from service.web.keys import ApiKey, KeyRing, Scope
from tests.support.waiting import until

Client = TestClient[web.Request, web.Application]

MONEY, READ = "money-key", "read-key"
USER_ID = "2100457788"
QR: dict[str, Any] = {
    "type": "qr",
    "total_amount": "100.00",
    "external_reference": "sale-1",
    "config": {"qr": {"external_pos_id": "CAJA01", "mode": "dynamic"}},
    "transactions": {"payments": [{"amount": "100.00"}]},
}
TERMINAL = "NEWLAND_N950__N950NCB801293324"
POINT: dict[str, Any] = {
    "type": "point",
    "external_reference": "mesa-1",
    "config": {"point": {"terminal_id": TERMINAL}},
    "transactions": {"payments": [{"amount": "100.00"}]},
}
CARD: dict[str, Any] = {
    "type": "online",
    "processing_mode": "automatic",
    "total_amount": "100.00",
    "external_reference": "web-1",
    "payer": {"email": "buyer@example.test"},
    "transactions": {
        "payments": [
            {
                "amount": "100.00",
                "payment_method": {"id": "visa", "type": "credit_card", "token": "card-token-1", "installments": 1},
            }
        ]
    },
}
SALE = (
    '{"external_reference": "legacy-1", "items": [{"title": "Yerba", "currency_id": "ARS", "unit_price": 25.10, '
    '"quantity": 3}]}'
)


def api_key(text: str, *scopes: Scope, per_second: float = 1000.0) -> ApiKey:
    """A key of that text; its name says which it is."""
    return ApiKey(text, hashlib.sha256(text.encode()).hexdigest(), frozenset(scopes), per_second)


RING = KeyRing((api_key(MONEY, "read", "operate", "money"), api_key(READ, "read")))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call was answered; `body` is None where there was none."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.body["error"]
        return error

    @property
    def command(self) -> dict[str, Any]:
        command: dict[str, Any] = self.body["command"]
        return command

    def details(self) -> dict[str, list[str]]:
        """The error's details: messages by field."""
        found: dict[str, list[str]] = {}
        for one in self.error["details"]:
            found.setdefault(one["field"], []).append(one["message"])
        return found


@dataclass
class DeskPort:
    """Calls the port as a till would, and the simulator as a buyer would."""

    database: Database
    client: Client
    provider: Client
    keys: KeyRing
    accounts: AccountBook
    runner: Runner
    worker: Worker

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, who: str | None = MONEY, **more: Any
    ) -> Answer:
        """A `str` or `bytes` body is sent as it is."""
        headers = {} if who is None else {"Authorization": f"Bearer {who}"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = body if isinstance(body, str | bytes) else json.dumps(body)
        headers |= more.pop("headers", {})
        async with self.client.request(method, path, data=body, headers=headers, **more) as answer:
            text = await answer.text()
            return Answer(answer.status, json.loads(text) if text else None, dict(answer.headers))

    async def create(self, order: Any = QR, *, key: str = "k-create", **more: Any) -> Answer:
        return await self.call("POST", "/api/v1/orders", {"order": order}, key=key, **more)

    async def created(self, order: Any = QR, *, key: str = "k-create") -> str:
        """The id of an order that was created through the port, and is stored."""
        answer = await self.create(order, key=key)
        assert answer.status == 201, answer
        order_id: str = answer.body["order"]["id"]
        await self.stored(order_id)
        return order_id

    async def stored(self, order_id: str, status: str | None = None) -> None:
        """Waits until the order is stored, in that status."""

        async def is_stored() -> bool:
            found = await self.database.fetchval("select status from cuadre.orders where order_id = $1", order_id)
            return found is not None and status in {None, found}

        await until(is_stored, what=f"order {order_id} is stored" + (f" as {status}" if status else ""))

    async def simulate(self, path: str, body: Any = None) -> Any:
        """The simulator's control."""
        method = "GET" if body is None else "POST"
        async with self.provider.request(method, f"/_sim/{path}", json=body) as answer:
            document = await answer.json()
            assert answer.status < 300, (path, document)
            return document

    async def pay(self, order_id: str) -> None:
        """The buyer pays, and a look shows it."""
        await self.simulate(f"orders/{order_id}/pay", {})
        await mark_order_due(self.database, order_id, "default")
        self.worker.wake()
        await self.stored(order_id, "processed")

    async def calls(self, operation: str) -> int:
        """How often the provider was called."""
        counts = (await self.simulate("requests"))["counts"].get(operation, {})
        return sum(counts.values())

    async def commands(self) -> int:
        """How many commands are written down."""
        count: int = await self.database.fetchval("select count(*) from cuadre.commands")
        return count


@asynccontextmanager
async def desk_port(
    database: Database, *accounts: Account, carries_out: bool = True, desk: bool = True
) -> AsyncIterator[DeskPort]:
    """Serves until the block ends. `carries_out` false: commands are written down, and nothing sends them."""
    async with AsyncExitStack() as stack:
        provider: Client = TestClient(TestServer(create_app(SimulatorConfig(user_id=USER_ID))))
        await stack.enter_async_context(provider)
        base = str(provider.make_url("")).rstrip("/")
        client = await stack.enter_async_context(MercadoPagoClient(base, total_timeout_seconds=5))
        worker = Worker(database, client, concurrency=8, poll_seconds=0.1, lease_seconds=30)
        book = AccountBook(
            accounts or [Account("default", user_id=USER_ID, access_token="APP_USR-test", currency="ARS")]
        )
        worker.follow(book)
        runner = Runner(
            database,
            client,
            account=worker.gates.account,
            gate=worker.gates.gate,
            poll_seconds=0.1,
            on_committed=worker.wake,
        )
        await stack.enter_async_context(_running(worker))
        if carries_out:
            await stack.enter_async_context(_running(runner))

        async def mark_due(order_id: str, account: str) -> None:
            await mark_order_due(database, order_id, account)
            worker.wake()

        app = create_internal_app(
            read_db=database,
            mark_due=mark_due,
            health=HealthState({"database": database.is_writable}),
            accounts=lambda: port.accounts,
            keys=lambda: port.keys,
            desk=Desk(database, worker.gates.account, wake=runner.wake) if desk else None,
        )
        server = TestServer(app)
        await server.start_server(auto_decompress=False)  # as the service does
        internal: Client = TestClient(server, cookie_jar=aiohttp.DummyCookieJar())
        await stack.enter_async_context(internal)
        port = DeskPort(database, internal, provider, RING, book, runner, worker)
        yield port


@asynccontextmanager
async def _running(loop: Worker | Runner) -> AsyncIterator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        await loop.stop(within_seconds=5)
        await asyncio.wait_for(task, 5)
