"""One call to Mercado Pago for an account: its token, its metrics, and its answer read or handed on.

A read raises `MercadoPagoError`. A write returns the provider's answer, whatever it says, and raises `ProviderTrouble`
only where there was none: `sent` then says whether it may have taken effect. An account without a token that can be
used raises `AccountRefused`; nothing was sent then.
"""

import re
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar

from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer, error_for, provider_answer
from service.mercadopago.errors import AccountRefused, BadRequest, MercadoPagoError
from service.mercadopago.transport import Answer, Transport, WriteMethod
from service.telemetry import metrics

# What may stand in a header without being able to end it.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HEADER = re.compile(r"[\x21-\x7e]{1,128}")

_Read = TypeVar("_Read")
OnCall = Callable[[str, str, float], None]
"""Told of every call: operation (`get_order`, `who_am_i`), outcome (`ok` or an error's), seconds."""


class Caller:
    """Makes the calls. Use as `async with`; `base_url` may have a path, but neither user nor query.

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
        self._transport = Transport(
            base_url,
            connect_timeout_seconds=connect_timeout_seconds,
            total_timeout_seconds=total_timeout_seconds,
            max_connections=max_connections,
        )
        self._on_call = on_call

    @property
    def total_timeout_seconds(self) -> float:
        """How long one call may take in all."""
        return self._transport.total_timeout_seconds

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def _read(
        self,
        operation: str,
        account: Account,
        path: str,
        read: Callable[[Answer], _Read],
        *,
        about_order: bool,
        query: Mapping[str, str] | None = None,
        what: str = "",
    ) -> _Read:
        """`GET`, and what `read` makes of a 200. `what` names the part of an order that is asked for."""
        token = _usable_token(account)
        started = time.perf_counter()
        seconds = None
        try:
            answer = await self._transport.get(path, token, query)
            seconds = time.perf_counter() - started
            if answer.status != 200:
                raise error_for(
                    answer.status, answer.headers, answer.body, token=token, about_order=about_order, what=what
                )
            result = read(answer)
        except MercadoPagoError as error:
            self._count(operation, error.outcome, time.perf_counter() - started if seconds is None else seconds)
            raise
        self._count(operation, "ok", seconds)
        return result

    async def _write(
        self,
        operation: str,
        account: Account,
        method: WriteMethod,
        path: str,
        *,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        may_be_empty: bool = False,
    ) -> ProviderAnswer:
        """One write, sent at most once, and its answer. `may_be_empty`: success may come without a document."""
        token = _usable_token(account)
        content = _content(body, headers or {})
        started = time.perf_counter()
        try:
            answer = await self._transport.send(method, path, token, body=content, headers=headers or {})
            result = provider_answer(answer.status, answer.headers, answer.body, token=token, may_be_empty=may_be_empty)
        except MercadoPagoError as error:
            self._count(operation, error.outcome, time.perf_counter() - started)
            raise
        outcome = "ok"
        if result.status >= 300:
            outcome = error_for(answer.status, answer.headers, b"", token=token, about_order=True).outcome
        self._count(operation, outcome, time.perf_counter() - started)
        return result

    def _count(self, operation: str, outcome: str, seconds: float) -> None:
        metrics.api_requests_total.labels(operation, outcome).inc()
        metrics.api_request_seconds.labels(operation).observe(seconds)
        if self._on_call is not None:
            self._on_call(operation, outcome, seconds)


def _content(body: str | None, headers: Mapping[str, str]) -> bytes | None:
    """The body's bytes. Raises `BadRequest` for what HTTP or JSON cannot carry; it is not sent."""
    for name, value in headers.items():
        if not _HEADER.fullmatch(value):
            raise BadRequest(f"the header {name} must be 1 to 128 characters of printable ASCII; nothing was sent")
    try:
        return None if body is None else body.encode()
    except UnicodeEncodeError:
        pass
    raise BadRequest("the body holds half of a surrogate pair, which no JSON can carry; nothing was sent")


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
