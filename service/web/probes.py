"""What needs no key: health for the platform, metrics for Prometheus. No SQL runs because of a scrape."""

import asyncio
import json

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from service.telemetry.metrics import REGISTRY
from service.web.errors import json_response
from service.web.parameters import NoParameters
from service.web.state import STATE


async def healthz(request: web.Request, asked: NoParameters) -> web.Response:
    """200 while this process's loops make progress, whatever the database does."""
    del asked
    alive, facts = request.app[STATE].health.alive()
    return json_response(json.dumps(facts), status=200 if alive else 503)


async def readyz(request: web.Request, asked: NoParameters) -> web.Response:
    """200 while requests should come here: database writable, schema current, not draining."""
    del asked
    ready, facts = await request.app[STATE].health.ready()
    return json_response(json.dumps(facts), status=200 if ready else 503)


async def metrics(request: web.Request, asked: NoParameters) -> web.Response:
    """Prometheus' text format, or OpenMetrics where `Accept` asks for it."""
    del asked
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    # Writing thousands of series takes tens of milliseconds, which webhooks need not wait for.
    body = await asyncio.to_thread(encode, REGISTRY)
    return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
