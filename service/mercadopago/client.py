"""The HTTP client for Mercado Pago: one session, one GET a call, every failure in the terms of the error tree.

Retries across time belong to the `sync` row; in here nothing is tried twice (but aiohttp repeats a GET once when a
kept connection turns out to be dead). The token travels in the `Authorization` header and nowhere else; errors are
raised outside of the handlers that caught aiohttp's, because those carry the request's headers.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from service import __version__
from service.mercadopago.account import Account
from service.mercadopago.answers import error_for, http_date
from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    ConnectionTrouble,
    MercadoPagoError,
    NonsenseAnswer,
    Timeout,
)
from service.mercadopago.json_text import NotJson, parse_json
from service.mercadopago.reader import ReadOrder, read_order
from service.telemetry import metrics

MAX_ANSWER_BYTES = 5 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What may stand in a header without being able to end it.
_TOKEN = re.compile(r"[\x21-\x7e]+")

_Read = TypeVar("_Read")
OnCall = Callable[[str, str, float], None]
"""Told of every call: operation (`get_order`, `who_am_i`), outcome (`ok` or an error's), seconds."""


@dataclass(frozen=True, slots=True)
class FetchedOrder:
    """`provider_date` is the answer's `Date` header: the provider's clock, to tell how far ours is off."""

    read: ReadOrder
    provider_date: datetime | None


@dataclass(frozen=True, slots=True)
class Seller:
    """Who a token belongs to. `is_test` says that it is a test user; `site_id` is like `MLA`."""

    user_id: str
    site_id: str | None
    nickname: str | None
    is_test: bool
    provider_date: datetime | None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class MercadoPagoClient:
    """Reads orders and sellers. Use as `async with`; `base_url` may have a path, but neither user nor query.

    `connect_timeout_seconds` bounds making a connection, `total_timeout_seconds` the whole call, waiting for one of
    the `max_connections` included: give it at least as many as fetches run at once.
    """

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout_seconds: float = 3,
        total_timeout_seconds: float = 10,
        max_connections: int = 100,
        on_call: OnCall | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ValueError("the Mercado Pago URL must be like https://api.mercadopago.com, without user or query")
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=total_timeout_seconds, sock_connect=connect_timeout_seconds)
        self._max_connections = max_connections
        self._on_call = on_call
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "MercadoPagoClient":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": f"cuadre/{__version__}"},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get_order(self, account: Account, order_id: str) -> FetchedOrder:
        """`GET /v1/orders/{id}`, read. Raises `MercadoPagoError`; an `UnreadableOrder` bears the answer's text."""
        if not _ORDER_ID.fullmatch(order_id):
            raise BadRequest("the order id is not of 1 to 64 letters, digits, _ and -; it was not asked for")
        return await self._call(
            "get_order",
            account,
            f"/v1/orders/{quote(order_id, safe='')}",
            lambda answer: FetchedOrder(read_order(answer.body, order_id), http_date(answer.headers.get("Date"))),
            about_order=True,
        )

    async def who_am_i(self, account: Account) -> Seller:
        """`GET /users/me`: the seller that the account's token speaks for. Raises `MercadoPagoError`."""
        return await self._call("who_am_i", account, "/users/me", _seller, about_order=False)

    async def _call(
        self,
        operation: str,
        account: Account,
        path: str,
        read: Callable[[_Answer], _Read],
        *,
        about_order: bool,
    ) -> _Read:
        token = _usable_token(account)
        started = time.perf_counter()
        seconds = None
        try:
            answer = await self._get(path, token)
            seconds = time.perf_counter() - started
            if answer.status != 200:
                raise error_for(answer.status, answer.headers, answer.body, token=token, about_order=about_order)
            result = read(answer)
        except MercadoPagoError as error:
            self._count(operation, error.outcome, time.perf_counter() - started if seconds is None else seconds)
            raise
        self._count(operation, "ok", seconds)
        return result

    def _count(self, operation: str, outcome: str, seconds: float) -> None:
        metrics.api_requests_total.labels(operation, outcome).inc()
        metrics.api_request_seconds.labels(operation).observe(seconds)
        if self._on_call is not None:
            self._on_call(operation, outcome, seconds)

    async def _get(self, path: str, token: str) -> _Answer:
        if self._session is None:
            raise RuntimeError("MercadoPagoClient is closed; use it inside `async with`")
        trouble: MercadoPagoError
        try:
            async with self._session.get(
                self._base_url + path, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False
            ) as response:
                return await _whole(response)
        except TimeoutError:
            trouble = Timeout(f"no whole answer within {self._timeout.total:g} s")
        except (aiohttp.ClientResponseError, HttpProcessingError):
            trouble = NonsenseAnswer("the answer is not HTTP that can be read")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            trouble = ConnectionTrouble(_what_broke(error))
        raise trouble


async def _whole(response: aiohttp.ClientResponse) -> _Answer:
    """The answer with its body. Of an error's body as much as can be had: the status already says what matters."""
    good = response.status == 200
    limit = MAX_ANSWER_BYTES if good else _MAX_ERROR_BYTES
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                break
    except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError):
        if good:
            raise
    if good and len(body) > limit:
        raise NonsenseAnswer("the answer is over 5 MiB", outcome="oversized", status=200)
    return _Answer(response.status, response.headers, bytes(body))


def _what_broke(error: Exception) -> str:
    """The kind of failure and the system's word for it. Not `str(error)`, which may quote what was sent or received."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _usable_token(account: Account) -> str:
    token = account.access_token
    if not token:
        raise AccountRefused(f"account {account.name} has no access_token", outcome="no_token")
    if not _TOKEN.fullmatch(token):
        raise AccountRefused(
            f"the access_token of account {account.name} holds spaces, line breaks or letters outside ASCII",
            outcome="bad_token",
        )
    return token


def _seller(answer: _Answer) -> Seller:
    try:
        value = parse_json(answer.body).value
    except NotJson as error:
        raise NonsenseAnswer(f"the answer is not JSON: {error}", status=200) from None
    fields = value if isinstance(value, dict) else {}
    user_id = fields.get("id")
    if isinstance(user_id, bool) or not isinstance(user_id, int | str) or user_id == "":
        raise NonsenseAnswer("the answer names no user", status=200)
    site_id, nickname, tags = fields.get("site_id"), fields.get("nickname"), fields.get("tags")
    return Seller(
        user_id=str(user_id),
        site_id=site_id if isinstance(site_id, str) else None,
        nickname=nickname if isinstance(nickname, str) else None,
        is_test=isinstance(tags, list) and "test_user" in tags,
        provider_date=http_date(answer.headers.get("Date")),
    )
