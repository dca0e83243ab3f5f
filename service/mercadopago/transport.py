"""One HTTP exchange with Mercado Pago: bytes there, bytes back, every failure in the terms of the error tree.

Nothing is tried twice, but for one thing: aiohttp repeats a GET when its connection breaks before an answer. A write is
never repeated. aiohttp would do that, too, for PUT and DELETE; and a connection kept from an earlier call may have died
unnoticed, which leaves a write's outcome unknown for nothing. So writes have connections of their own, made for one
exchange each, and `_never_twice` takes the repetition away.

The token travels in the `Authorization` header and nowhere else; errors are raised outside of the handlers that caught
aiohttp's, because those carry the request's headers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from service import __version__
from service.mercadopago.errors import ConnectionTrouble, MercadoPagoError, NonsenseAnswer, Timeout

MAX_ANSWER_BYTES = 5 * 1024 * 1024
# A declined creation carries the whole order (402).
_MAX_ERROR_BYTES = 256 * 1024

WriteMethod = Literal["POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer; of an error's body as much as could be had."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _BrokenOff(aiohttp.ClientError):
    """A write's connection broke. Of a kind that aiohttp does not answer with another attempt."""


@dataclass(slots=True)
class _Progress:
    """How far a write has come. `connecting`: a connection was asked for and is not there, so nothing has left."""

    connecting: bool = False


class Transport:
    """Connections to one base URL. `open` before use, `close` after; `base_url` has neither user nor query.

    `connect_timeout_seconds` bounds making a connection, `total_timeout_seconds` the whole exchange, waiting for one of
    the `max_connections` included.
    """

    def __init__(
        self, base_url: str, *, connect_timeout_seconds: float, total_timeout_seconds: float, max_connections: int
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
        self._reads: aiohttp.ClientSession | None = None
        self._writes: aiohttp.ClientSession | None = None

    @property
    def total_timeout_seconds(self) -> float:
        """What one exchange may take."""
        return self._timeout.total or 0

    async def open(self) -> None:
        """Makes the sessions; connections are made when they are needed."""
        self._reads = self._session(aiohttp.TCPConnector(limit=self._max_connections))
        self._writes = self._session(
            aiohttp.TCPConnector(limit=self._max_connections, force_close=True), trace_configs=[_trace()]
        )

    async def close(self) -> None:
        """Closes the connections that are kept."""
        reads, writes, self._reads, self._writes = self._reads, self._writes, None, None
        for session in (reads, writes):
            if session is not None:
                await session.close()

    def _session(
        self, connector: aiohttp.TCPConnector, trace_configs: list[aiohttp.TraceConfig] | None = None
    ) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": f"cuadre/{__version__}"},
            trust_env=False,
            trace_configs=trace_configs,
        )

    async def get(self, path: str, token: str, query: Mapping[str, str] | None = None) -> Answer:
        """`GET` of `path` (quoted, below the base URL). Raises `ProviderTrouble`."""
        trouble: MercadoPagoError
        try:
            async with _opened(self._reads).get(
                self._base_url + path,
                params=query,
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
            ) as response:
                return await _whole(response, is_good=response.status == 200)
        except (TimeoutError, aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            trouble = self._trouble(error, sent=not _is_of_connecting(error))
        raise trouble

    async def send(
        self, method: WriteMethod, path: str, token: str, *, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """One write, sent at most once. `body` is JSON. Raises `ProviderTrouble`, whose `sent` says what it means."""
        progress = _Progress()
        trouble: MercadoPagoError
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with _opened(self._writes).request(
                method,
                self._base_url + path,
                data=body,
                headers={**kind, **headers, "Authorization": f"Bearer {token}"},
                allow_redirects=False,
                middlewares=(_never_twice,),
                trace_request_ctx=progress,
            ) as response:
                return await _whole(response, is_good=200 <= response.status < 300)
        except (TimeoutError, aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            trouble = self._trouble(error, sent=not (progress.connecting or _is_of_connecting(error)))
        raise trouble

    def _trouble(self, error: Exception, *, sent: bool) -> MercadoPagoError:
        if isinstance(error, TimeoutError):
            limit = self._timeout.sock_connect if isinstance(error, aiohttp.ConnectionTimeoutError) else None
            what = "no whole answer" if sent else "no connection"
            return Timeout(f"{what} within {limit or self.total_timeout_seconds:g} s", sent=sent)
        if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
            return NonsenseAnswer("the answer is not HTTP that can be read")
        return ConnectionTrouble(_what_broke(error), sent=sent)


def _opened(session: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
    if session is None:
        raise RuntimeError("MercadoPagoClient is closed; use it inside `async with`")
    return session


async def _never_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Lets a broken connection end the call."""
    broken: str
    try:
        return await handler(request)
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        broken = _what_broke(error)
    raise _BrokenOff(broken)


def _trace() -> aiohttp.TraceConfig:
    """Tells a write's `_Progress` from when to when a connection is being made, waiting for a free one included."""
    trace = aiohttp.TraceConfig()

    async def begins(_session: aiohttp.ClientSession, context: SimpleNamespace, _about: object) -> None:
        context.trace_request_ctx.connecting = True

    async def ends(_session: aiohttp.ClientSession, context: SimpleNamespace, _about: object) -> None:
        context.trace_request_ctx.connecting = False

    trace.on_connection_queued_start.append(begins)
    trace.on_connection_create_start.append(begins)
    trace.on_connection_create_end.append(ends)
    return trace


def _is_of_connecting(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)


async def _whole(response: aiohttp.ClientResponse, *, is_good: bool) -> Answer:
    """The answer with its body. Of an error's body as much as can be had: the status already says what matters."""
    limit = MAX_ANSWER_BYTES if is_good else _MAX_ERROR_BYTES
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                break
    except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError):
        if is_good:
            raise
    if is_good and len(body) > limit:
        raise NonsenseAnswer("the answer is over 5 MiB", outcome="oversized", status=response.status)
    return Answer(response.status, response.headers, bytes(body))


def _what_broke(error: Exception) -> str:
    """The kind of failure and the system's word for it. Not `str(error)`, which may quote what was sent or received."""
    if isinstance(error, _BrokenOff):
        return str(error)
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
