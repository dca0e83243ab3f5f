"""A live simulator on loopback, and a receiver of its notifications that answers as it is told."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.simulator.server import SimulatorConfig, create_app

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mercadopago"
SECRET = "8f1d0c7be2a94563a7c1f09d5b3e6428a1b2c3d4e5f60718293a4b5c6d7e8f90"


@dataclass(frozen=True)
class Received:
    """One delivery as it arrived."""

    query: dict[str, str]
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@dataclass
class Receiver:
    """Answers 200, or first what `answers` holds: a status, or "hang" until the test is over."""

    received: list[Received] = field(default_factory=list)
    answers: deque[int | str] = field(default_factory=deque)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    arrival: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(Received(dict(request.query), request.headers, await request.text()))
        self.arrival.set()
        answer = self.answers.popleft() if self.answers else 200
        if isinstance(answer, str):
            await self.over.wait()
            return web.Response()
        headers = {"Location": "/elsewhere"} if 300 <= answer < 400 else {}
        return web.Response(status=answer, headers=headers)

    async def has(self, count: int) -> None:
        """Wait until that many deliveries have arrived."""
        async with asyncio.timeout(20):
            while len(self.received) < count:
                self.arrival.clear()
                await self.arrival.wait()

    def actions(self) -> list[str]:
        return [one.body["action"] for one in self.received]


@dataclass
class Simulator:
    """A live simulator: `api` speaks to the provider's API with a token, `control` to `/_sim`."""

    client: TestClient[web.Request, web.Application]
    token: str = "APP_USR-simulator"

    @property
    def base(self) -> str:
        return str(self.client.make_url("")).rstrip("/")

    async def api(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        async with self.client.request(method, path, headers=headers, **more) as response:
            return response.status, json.loads(await response.read() or b"null")

    async def control(self, path: str, body: Any = None, expect: int | None = None) -> Any:
        method = "GET" if body is None else "POST"
        async with self.client.request(method, f"/_sim/{path}", json=body) as response:
            answer = await response.json()
            assert response.status == (expect or response.status)
            assert expect is not None or response.status < 300, answer
            return answer

    async def order(self, **spec: Any) -> Any:
        return await self.control("orders", spec)

    async def settled(self) -> None:
        assert (await self.control("idle?timeout_seconds=20"))["idle"] is True


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    taker = Receiver()
    app = web.Application()
    app.router.add_post("/hooks", taker.take)
    server = TestServer(app)
    await server.start_server()
    taker.url = f"{server.make_url('/hooks')}?client=7"
    yield taker
    taker.over.set()
    await server.close()


Start = Callable[..., Awaitable[Simulator]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a simulator with these settings; it ends with the test."""
    clients: list[TestClient[web.Request, web.Application]] = []

    async def begin(**settings: Any) -> Simulator:
        client = TestClient(TestServer(create_app(SimulatorConfig(**settings))))
        await client.start_server()
        clients.append(client)
        return Simulator(client)

    yield begin
    for client in clients:
        await client.close()


@pytest.fixture
async def simulator(start: Start, receiver: Receiver) -> Simulator:
    """One that signs, delivers to the receiver, and retries within seconds."""
    return await start(webhook_url=receiver.url, webhook_secret=SECRET, time_compression=100_000)


@pytest.fixture
def captured() -> Callable[[str], Any]:
    def load(name: str) -> Any:
        return json.loads((FIXTURES / name).read_text())

    return load
