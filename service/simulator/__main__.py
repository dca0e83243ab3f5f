"""`python -m service.simulator`: a simulated Mercado Pago until interrupted."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from .clock import parse_time
from .config import DEFAULT_WEBHOOK_URL, SimulatorConfig
from .money import SITES
from .server import run


def parse_arguments(arguments: Sequence[str] | None = None) -> SimulatorConfig:
    """The configuration the arguments ask for; exits with 2 on wrong ones."""
    usual = SimulatorConfig()
    parser = argparse.ArgumentParser(prog="python -m service.simulator", description="A simulated Mercado Pago.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=8090, help="port to listen on, 0 for a free one")
    parser.add_argument("--seed", type=int, default=1, help="what ids, amounts and faults are drawn from")
    parser.add_argument("--webhook-url", default=DEFAULT_WEBHOOK_URL, help="where notifications go; empty for nowhere")
    parser.add_argument("--secret", default=None, help="signs the notifications (default: they are not signed)")
    parser.add_argument(
        "--token", action="append", default=[], metavar="TOKEN[=USER_ID]", help="accept only these (default: any)"
    )
    parser.add_argument("--user-id", default=usual.user_id, help="the seller")
    parser.add_argument("--application-id", default=usual.application_id)
    parser.add_argument("--site", choices=sorted(SITES), default=usual.site, help="the seller's country")
    parser.add_argument("--pos", action="append", metavar="EXTERNAL_ID", help="a point of sale (default: any name)")
    parser.add_argument("--terminal", action="append", metavar="TERMINAL_ID", help="a terminal (default: any name)")
    parser.add_argument("--start-at", type=parse_time, default=None, help="RFC 3339 time the clock starts at")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per second, 0 is frozen")
    parser.add_argument("--time-compression", type=float, default=1.0, help="divides the waits between retries")
    parser.add_argument("--timeout-compression", type=float, default=1.0, help="divides the 22 s and 5 s time-outs")
    given = parser.parse_args(arguments)
    tokens = dict(token.rpartition("=")[::2] if "=" in token else (token, given.user_id) for token in given.token)
    try:
        return SimulatorConfig(
            seed=given.seed,
            host=given.host,
            port=given.port,
            webhook_url=given.webhook_url or None,
            webhook_secret=given.secret or None,
            access_tokens=tokens,
            user_id=given.user_id,
            application_id=given.application_id,
            site=given.site,
            known_pos=None if given.pos is None else tuple(given.pos),
            known_terminals=None if given.terminal is None else tuple(given.terminal),
            start_at=given.start_at,
            speed=given.speed,
            time_compression=given.time_compression,
            timeout_compression=given.timeout_compression,
        )
    except ValueError as error:
        parser.error(str(error))


async def serve(config: SimulatorConfig) -> None:
    """Run until SIGINT or SIGTERM."""
    server = asyncio.create_task(run(config, ready=lambda url: say(f"simulated Mercado Pago on {url}", config)))
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, server.cancel)
    with suppress(asyncio.CancelledError):
        await server


def say(line: str, config: SimulatorConfig) -> None:
    """One line for whoever waits for the server."""
    sys.stdout.write(f"{line}, seed {config.seed}, notifications to {config.webhook_url or 'nowhere'}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 interrupted, 1 the address is taken, 2 wrong arguments."""
    config = parse_arguments(arguments)
    try:
        asyncio.run(serve(config))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {config.host}:{config.port}: {error.strerror}; choose another --port\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
