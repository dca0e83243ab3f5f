"""The internal application before a client, with authentication off and the accounts `default` and `second`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from service.accounts import AccountBook
from service.database.pool import Database
from service.mercadopago.account import Account
from service.web.health import HealthState
from service.web.internal import create_internal_app
from service.web.keys import KeyRing

Client = TestClient[web.Request, web.Application]


@dataclass
class InternalPort:
    """A client of the application, and what the application was given."""

    client: Client
    health: HealthState
    marked: list[tuple[str, str]] = field(default_factory=list)
    keys: KeyRing = field(default_factory=lambda: KeyRing(open_to_all=True))
    accounts: AccountBook = field(default_factory=lambda: AccountBook([Account("default"), Account("second")]))

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a 200."""
        async with self.client.get(path, params=params) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def refused(self, path: str | URL, *, method: str = "GET", **params: Any) -> tuple[int, dict[str, Any]]:
        """Status and error of an answer that is none."""
        async with self.client.request(method, path, params=params) as answer:
            document = await answer.json()
            assert document.keys() == {"error"}, document
            assert document["error"].keys() == {"code", "message", "details"}
            return answer.status, document["error"]

    async def page_through(self, path: str, **params: Any) -> list[Any]:
        """All rows of a list, page by page."""
        rows: list[Any] = []
        while True:
            page = await self.get(path, **params)
            rows += page["data"]
            if page["next_cursor"] is None:
                return rows
            assert page["data"], "a page with a successor is never empty"
            params["cursor"] = page["next_cursor"]


@asynccontextmanager
async def serve(database: Database) -> AsyncIterator[InternalPort]:
    """The application on a loopback port."""

    async def mark_due(order_id: str, account: str) -> None:
        internal.marked.append((order_id, account))

    health = HealthState({"database": database.is_writable})
    app = create_internal_app(
        read_db=database,
        mark_due=mark_due,
        health=health,
        accounts=lambda: internal.accounts,
        keys=lambda: internal.keys,
    )
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        internal = InternalPort(client, health)
        yield internal
