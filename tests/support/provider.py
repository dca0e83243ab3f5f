"""A provider on loopback that answers what a test tells it to: smaller than the simulator, and ours alone to bend."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class StubProvider:
    """`orders` by id; `mishap(order_id, nth)` may return a response to give instead of the order."""

    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    mishap: Callable[[str, int], web.StreamResponse | None] = lambda order_id, nth: None
    calls: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def put(self, *bodies: dict[str, Any]) -> None:
        for body in bodies:
            self.orders[body["id"]] = body

    async def get(self, request: web.Request) -> web.StreamResponse:
        order_id = request.match_info["order_id"]
        self.calls[order_id] += 1
        instead = self.mishap(order_id, self.calls[order_id])
        if instead is not None:
            return instead
        if order_id not in self.orders:
            return not_found()
        return web.Response(text=json.dumps(self.orders[order_id]), content_type="application/json")


def not_found() -> web.Response:
    return web.json_response({"errors": [{"code": "order_not_found", "message": "Order not found."}]}, status=404)


async def seller(request: web.Request) -> web.Response:
    """The token is good, whoever asks."""
    del request
    return web.json_response({"id": 2100457788, "site_id": "MLA", "nickname": "SHOP"})


@asynccontextmanager
async def stub_provider() -> AsyncIterator[StubProvider]:
    """Serves until the block ends."""
    provider = StubProvider()
    app = web.Application()
    app.router.add_get("/v1/orders/{order_id}", provider.get)
    app.router.add_get("/users/me", seller)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield provider
    finally:
        await runner.cleanup()
