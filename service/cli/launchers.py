"""`cuadre serve`, `cuadre demo` and `cuadre simulator`: what runs until it is told to stop.

Their programs are imported when they are called: each is large, and the help needs none of them.
"""

import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated

import typer

from service.cli.context import configuration, database_url, run
from service.cli.failures import CommandError
from service.simulator.config import DEFAULT_WEBHOOK_URL, SimulatorConfig
from service.telemetry.logging import configure

_USUAL = SimulatorConfig()


def serve(
    migrate: Annotated[bool, typer.Option("--migrate", help="Bring the schema up to date first.")] = False,
) -> int:
    """Receive webhooks and synchronise orders until told to stop."""
    from service.cli import serve as program  # noqa: PLC0415 - see the module's docstring

    settings, _ = configuration(database_url)
    # A service's log is its output.
    configure(settings.log_format, settings.log_level, sys.stdout)
    try:
        return run(lambda: program.serve(settings, migrate_first=migrate))
    except program.UnusableSchemaError as error:
        raise CommandError(str(error)) from error


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after one day of orders instead of going on.")] = False,
    orders: Annotated[int, typer.Option(min=1, max=100_000, help="How many orders the day has.")] = 300,
    data: Annotated[Path | None, typer.Option(help="Keep the database in this folder between runs.")] = None,
) -> int:
    """See it work: a day of orders at a simulated Mercado Pago."""
    from service.cli.demo import run_demo  # noqa: PLC0415 - see the module's docstring

    return run_demo(once=once, orders=orders, data_dir=data)


def simulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8090,
    seed: Annotated[int, typer.Option(help="The same seed draws the same ids, amounts and faults.")] = 1,
    webhook_url: Annotated[
        str, typer.Option(help="Where notifications are delivered; empty for nowhere.")
    ] = DEFAULT_WEBHOOK_URL,
    secret: Annotated[str | None, typer.Option(help="Signs the notifications; without it they are not signed.")] = None,
    token: Annotated[
        list[str] | None, typer.Option(metavar="TOKEN[=USER_ID]", help="Take only this access token; repeatable.")
    ] = None,
    user_id: Annotated[str, typer.Option(help="The seller.")] = _USUAL.user_id,
    application_id: Annotated[str, typer.Option(help="The application that owns the orders.")] = _USUAL.application_id,
    site: Annotated[str, typer.Option(help="The seller's country, like MLA or MLB.")] = _USUAL.site,
    start_at: Annotated[str | None, typer.Option(help="RFC 3339 time that its clock starts at.")] = None,
    speed: Annotated[float, typer.Option(min=0, help="Simulated seconds per second; 0 stands still.")] = 1.0,
    time_compression: Annotated[float, typer.Option(help="Divides the waits between retries.")] = 1.0,
    timeout_compression: Annotated[float, typer.Option(help="Divides the time-outs of 22 s and 5 s.")] = 1.0,
) -> int:
    """Run a Mercado Pago that can be told to misbehave."""
    from service.simulator.__main__ import serve as serve_simulator  # noqa: PLC0415 - see the module's docstring
    from service.simulator.clock import parse_time  # noqa: PLC0415 - see the module's docstring
    from service.simulator.money import SITES  # noqa: PLC0415 - see the module's docstring

    sites = sorted(SITES)
    if site not in sites:
        raise typer.BadParameter(f"must be one of {', '.join(sites)}", param_hint="--site")
    try:
        config = SimulatorConfig(
            seed=seed,
            host=host,
            port=port,
            webhook_url=webhook_url or None,
            webhook_secret=secret or None,
            access_tokens=dict(_token(text, user_id) for text in token or ()),
            user_id=user_id,
            application_id=application_id,
            site=site,
            start_at=None if start_at is None else parse_time(start_at),
            speed=speed,
            time_compression=time_compression,
            timeout_compression=timeout_compression,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return run(lambda: _simulate(serve_simulator(config), f"{host}:{port}"))


def _token(text: str, user_id: str) -> tuple[str, str]:
    token, equals, owner = text.rpartition("=")
    return (token, owner) if equals else (text, user_id)


async def _simulate(server: Awaitable[None], address: str) -> int:
    try:
        await server
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CommandError(f"cannot listen on {address} ({reason}); choose another --port") from error
    return 0
