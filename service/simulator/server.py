"""The simulator as an application and as a running server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from aiohttp import web

from . import control, control_legacy, control_world, legacy_api, legacy_reads, provider, writes
from .config import DEFAULT_ACCESS_TOKEN, DEFAULT_WEBHOOK_URL, SimulatorConfig
from .world import WORLD, World

__all__ = ["DEFAULT_ACCESS_TOKEN", "DEFAULT_WEBHOOK_URL", "WORLD", "SimulatorConfig", "create_app", "run"]

MAX_REQUEST_BYTES = 16 * 1024 * 1024


def create_app(config: SimulatorConfig) -> web.Application:
    """The simulated provider with its control API. `app[WORLD]` is its state, for tests in the same process."""
    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app[WORLD] = World(config)
    for part in (provider, writes, legacy_api, legacy_reads, control, control_world, control_legacy):
        app.add_routes(part.routes())
    app.cleanup_ctx.append(_run_world)
    app.on_shutdown.append(_let_go)
    return app


async def _run_world(app: web.Application) -> AsyncIterator[None]:
    world = app[WORLD]
    await world.notifier.start()
    expiries = asyncio.create_task(world.expire_forever())
    yield
    expiries.cancel()
    with suppress(asyncio.CancelledError):
        await expiries
    await world.notifier.stop()


async def _let_go(app: web.Application) -> None:
    """Answer the calls that hang, so that shutting down need not wait for them."""
    app[WORLD].closing.set()


async def run(config: SimulatorConfig, port: int | None = None, ready: Callable[[str], None] | None = None) -> None:
    """Serve until cancelled. `ready` is told the base URL once connections are taken; port 0 picks a free one.

    Raises `OSError` when the address is taken.
    """
    runner = web.AppRunner(create_app(config), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port if port is None else port).start()
        if ready is not None:
            host, bound_port = runner.addresses[0][:2]
            ready(f"http://[{host}]:{bound_port}" if ":" in host else f"http://{host}:{bound_port}")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
