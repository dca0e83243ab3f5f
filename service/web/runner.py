"""Running the public application: requests that are no HTTP get a word, too, and cost no stack trace.

aiohttp answers what it cannot parse by itself, with a text that repeats the bytes, and logs a traceback for each. On a
port that anybody may write to that is a way to fill a disk.
"""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from service.telemetry import metrics

# From the connection to the end of the first request's headers.
HEADERS_SECONDS = 10.0


class _Handler(RequestHandler):
    """aiohttp's connection handler with the contract's manner of saying no, and with a time limit on silence."""

    __slots__ = ("_silence",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._silence = self._loop.call_later(HEADERS_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._silence.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._silence.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what could not be parsed (4xx), or to a fault of ours that nothing else caught (5xx)."""
        if status >= 500:
            return super().handle_error(request, status, exc, None)
        metrics.notifications_total.labels("none", "malformed").inc()
        metrics.http_requests_total.labels("public", "unparsable", str(status)).inc()
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        response = web.json_response({"status": "malformed"}, status=status, headers={"Server": ""})
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)


class PublicRunner(web.AppRunner):
    """`web.AppRunner` for the public port."""

    __slots__ = ()

    async def _make_server(self) -> Any:
        made = await super()._make_server()
        # aiohttp has no public way to hand over a handler class; the integration tests hold this to its version.
        made.__class__ = _Server
        return made
