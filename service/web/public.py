"""The public application: one route for the provider's deliveries, and nothing else."""

import asyncio
import time

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service.intake.receive import (
    MALFORMED,
    MAX_BODY_BYTES,
    RETRY_AFTER_SECONDS,
    UNAVAILABLE_ANSWER,
    Answer,
    Intake,
    RawDelivery,
)
from service.telemetry import metrics
from service.web.middleware import count_requests

_ROUTE = "/webhooks/mercadopago"
_UNKNOWN = Answer(404, "not_found")


def create_public_app(intake: Intake, *, read_timeout_seconds: float) -> web.Application:
    """`POST /webhooks/mercadopago[/{account}]`; the answers are the contract's table and say no more than a word."""

    async def receive(request: web.Request) -> web.Response:
        received_at = time.monotonic()
        account_name = request.match_info.get("account")
        try:
            async with asyncio.timeout(read_timeout_seconds):
                body = await _read_body(request)
        except (TimeoutError, ConnectionError):
            metrics.notifications_total.labels("none", "unavailable").inc()
            return _answer(UNAVAILABLE_ANSWER)
        except (web.RequestPayloadError, HttpProcessingError):
            metrics.notifications_total.labels("none", "malformed").inc()
            return _answer(MALFORMED)
        raw = RawDelivery(
            account_name=account_name,
            path=request.path,
            query=[(name, value) for name, value in request.query.items()],
            headers=[(name.lower(), value) for name, value in request.headers.items()],
            body=body,
            received_at=received_at,
        )
        return _answer(await intake.receive(raw))

    async def nothing_here(request: web.Request) -> web.Response:
        del request
        return _answer(_UNKNOWN)

    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[count_requests("public")])
    app.on_response_prepare.append(_without_server)
    app.router.add_post(_ROUTE, receive)
    app.router.add_post(_ROUTE + "/{account}", receive)
    app.router.add_route("*", "/{anything:.*}", nothing_here)
    return app


async def _without_server(request: web.Request, response: web.StreamResponse) -> None:
    """No answer tells more than its status word: not what serves it either."""
    del request
    response.headers.pop("Server", None)


async def _read_body(request: web.Request) -> bytes | None:
    """The body, or None where it is over the limit. Stops reading as soon as that is clear."""
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _answer(answer: Answer) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if answer.status == 503 else {}
    return web.json_response({"status": answer.word}, status=answer.status, headers=headers)
