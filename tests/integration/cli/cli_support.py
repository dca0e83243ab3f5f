"""Running commands in this process, and a Mercado Pago on loopback that answers what a test wants."""

import asyncio
import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from service.cli import main

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "mercadopago"
TOKEN = "APP_USR-marked-token-7c1e"
SECRET = "marked-webhook-secret-91ab"
USER_ID = "2100457788"
DEADLINE_SECONDS = 20.0


def order_fixture(name: str, **changes: object) -> dict[str, Any]:
    """The body of an order, with top-level changes."""
    body: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return body | changes


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as the one JSON document that it is."""
        return json.loads(self.out)


@dataclass
class Cuadre:
    """Runs commands in a thread of this process; no output may hold one of `secrets`."""

    secrets: Sequence[str]

    async def __call__(self, *arguments: str) -> Result:
        return await asyncio.to_thread(self.run, *arguments)

    def run(self, *arguments: str) -> Result:
        """The same for tests without an event loop."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(arguments))
        result = Result(code, out.getvalue(), err.getvalue())
        for secret in self.secrets:
            assert secret not in result.out
            assert secret not in result.err
        assert "Traceback" not in result.err
        return result


@dataclass
class Provider:
    """Answers of the stub, by order id; what was asked for; its clock."""

    orders: dict[str, dict[str, Any] | str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    me: dict[str, Any] = field(default_factory=lambda: {"id": int(USER_ID), "site_id": "MLA", "tags": []})
    me_status: int = 200
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    asked: list[str] = field(default_factory=list)
    hangs: bool = False
    failing: int = 0
    """So many of the next reads are answered 502."""

    def application(self) -> web.Application:
        """The routes that the service calls."""
        app = web.Application()
        app.router.add_get("/v1/orders/{id}", self._order)
        app.router.add_get("/users/me", self._me)
        return app

    async def _order(self, request: web.Request) -> web.Response:
        order_id = request.match_info["id"]
        self.asked.append(order_id)
        if self.hangs:
            await asyncio.sleep(DEADLINE_SECONDS)
        if self.failing > 0:
            self.failing -= 1
            return self._answer({"code": "internal_error"}, 502)
        status = self.statuses.get(order_id, 200 if order_id in self.orders else 404)
        if status == 404:
            return self._answer(json.loads((FIXTURES / "errors/404-order_not_found.json").read_text()), 404)
        if status != 200:
            return self._answer({"code": "stub", "message": f"as told, with {TOKEN}"}, status)
        return self._answer(self.orders[order_id], 200)

    async def _me(self, request: web.Request) -> web.Response:
        del request
        return self._answer(self.me, self.me_status)

    def _answer(self, body: object, status: int) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        headers = {"Date": format_datetime(self.clock(), usegmt=True)}
        return web.Response(text=text, status=status, content_type="application/json", headers=headers)


async def until(condition: Callable[[], Any]) -> None:
    """Waits for a condition (a function, or one that returns an awaitable) with a deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)
