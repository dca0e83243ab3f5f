"""The real public application on a loopback port, with the real recorder behind it."""

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from service.accounts import AccountBook
from service.database.pool import Database
from service.intake.receive import Intake
from service.intake.record import NotificationRecorder
from service.mercadopago.account import Account
from service.web.public import create_public_app
from service.web.runner import PublicRunner

SECRET = "8f1d0c7be2a94563"
ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"


def signature(
    data_id: str, *, secret: str = SECRET, request_id: str | None = "r-1", ts: str | None = None
) -> dict[str, str]:
    """The provider's headers for a delivery about `data_id`: lowercase manifest, as real deliveries have."""
    ts = ts or str(int(time.time()))
    manifest = f"id:{data_id.lower()};" + (f"request-id:{request_id};" if request_id else "") + f"ts:{ts};"
    digest = hmac.new(secret.encode(), manifest.encode(), hashlib.sha256).hexdigest()
    headers = {"X-Signature": f"ts={ts},v1={digest}"}
    return headers | ({"X-Request-Id": request_id} if request_id else {})


@dataclass
class PublicPort:
    """Posts deliveries and tells the answers."""

    url: str
    session: aiohttp.ClientSession
    book: AccountBook

    async def post(
        self,
        body: bytes = b"{}",
        *,
        query: dict[str, str] | list[tuple[str, str]] | None = None,
        path: str = "/webhooks/mercadopago",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str]:
        """(status, the one word of the answer)."""
        async with self.session.post(
            self.url + path, data=body, params=query, headers={"Content-Type": "application/json"} | (headers or {})
        ) as response:
            answer = await response.json()
            assert set(answer) == {"status"}, "an answer tells its word and nothing else"
            assert "Server" not in response.headers
            assert (response.headers.get("Retry-After") is not None) == (response.status == 503)
            return response.status, answer["status"]


@asynccontextmanager
async def public_port(
    database: Database, *accounts: Account, ack_timeout_seconds: float = 4.0
) -> AsyncIterator[PublicPort]:
    """Serves until the block ends."""
    book = AccountBook(accounts or [Account("default", webhook_secrets=(SECRET,))])
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    intake = Intake(recorder, lambda: book, ack_timeout_seconds=ack_timeout_seconds)
    runner = PublicRunner(
        create_public_app(intake, read_timeout_seconds=ack_timeout_seconds), access_log=None, auto_decompress=False
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession() as session:
            yield PublicPort(f"http://127.0.0.1:{runner.addresses[0][1]}", session, book)
    finally:
        await runner.cleanup()
        await recorder.close()
