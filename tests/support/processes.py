"""The service and the simulator as real processes, as they run in production; none outlives the test."""

import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.database.embedded_lifeline import TiedProcess, start_tied
from tests.support.waiting import until_sync

SECRET = "e2e-webhook-s3cret"
TOKEN = "APP_USR-e2e-token-000000000000"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(url: str, body: object = None, *, timeout: float = 15) -> tuple[int, Any]:
    """(status, parsed answer); status 0 where nobody answers. A body makes it a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            text = response.read()
            status = response.status
    except urllib.error.HTTPError as error:
        text, status = error.read(), error.code
    except (OSError, urllib.error.URLError):
        return 0, None
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


@dataclass
class Process:
    """A running child and its log."""

    tied: TiedProcess
    log: Path

    def kill(self) -> None:
        """`kill -9`: nothing of ours runs any more."""
        self.tied.send_signal(signal.SIGKILL)
        self.tied.wait(10)

    def terminate(self) -> None:
        self.tied.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        return self.tied.wait(seconds)

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def process(
    folder: Path, name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Runs `python -m ARGUMENTS` until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    base = {key: value for key, value in os.environ.items() if not key.startswith("CUADRE_")}
    with log.open("ab") as output:
        tied = start_tied(
            [sys.executable, "-m", *arguments], user=None, environment=base | dict(environment or {}), output=output
        )
    running = Process(tied, log)
    try:
        yield running
    finally:
        if tied.poll() is None:
            tied.send_signal(signal.SIGKILL)
        tied.wait(10)
        tied.ended()


class Simulator:
    """The simulated provider, by its control API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def tell(self, path: str, body: object) -> Any:
        status, answer = call(f"{self.url}/_sim/{path}", body)
        assert status in {200, 201, 202}, (path, status, answer)
        return answer

    def ask(self, path: str) -> Any:
        status, answer = call(f"{self.url}/_sim/{path}")
        assert status == 200, (path, status, answer)
        return answer

    def sell(self, number: int) -> str:
        """One order taken through a life that its number decides; its id."""
        life = number % 5
        kind = ("qr", "point", "online")[number % 3]
        body = {"type": kind, "total_amount": f"{100 + number}.00", "external_reference": f"venta-{number}"}
        order_id: str = self.tell("orders", body)["id"]
        if life == 4:
            self.tell(f"orders/{order_id}/cancel", {})
            return order_id
        self.tell(f"orders/{order_id}/pay", {})
        if life >= 1:
            self.tell(f"orders/{order_id}/refund", {"amount": "30.00"})
        if life >= 2:
            self.tell(f"orders/{order_id}/refund", {})
        return order_id

    def ledger(self) -> dict[str, Any]:
        """Order id -> body, exactly as `GET` would answer."""
        return {order["id"]: order for order in self.ask("orders?limit=100000")["data"]}

    def acknowledged(self) -> int:
        """Deliveries of order notifications that we answered 200."""
        return sum(one["outcome"] == "delivered" for one in self.ask("notifications?limit=100000")["data"])


@contextmanager
def simulator(folder: Path, *, webhook_port: int, seed: int = 1, compression: float = 20_000) -> Iterator[Simulator]:
    """A simulator that delivers to `webhook_port` and retries soon."""
    port = free_port()
    arguments = [
        "service.simulator", "--port", str(port), "--seed", str(seed), "--secret", SECRET,
        "--webhook-url", f"http://127.0.0.1:{webhook_port}/webhooks/mercadopago",
        "--time-compression", str(compression),
    ]  # fmt: skip
    with process(folder, "simulator", *arguments):
        provider = Simulator(port)
        until_sync(lambda: call(f"{provider.url}/_sim/clock")[0] == 200, what="the simulator answers")
        yield provider


@dataclass
class Service:
    """One `cuadre serve`, by its ports."""

    process: Process
    public_port: int
    internal_port: int

    def get(self, path: str) -> tuple[int, Any]:
        return call(f"http://127.0.0.1:{self.internal_port}{path}", timeout=5)

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200


def service_environment(dsn: str, provider_url: str, **settings: str) -> dict[str, str]:
    """The settings of a service for tests; `settings` by their names without the prefix, lower case."""
    usual = {
        "database_url": dsn,
        "mercadopago_url": provider_url,
        "access_token": TOKEN,
        "webhook_secrets": SECRET,
        "public_host": "127.0.0.1",
        "internal_host": "127.0.0.1",
        "internal_auth": "off",
        "drain_seconds": "0",
        "poll_seconds": "0.1",
        "lease_seconds": "5",
    }
    return {f"CUADRE_{name.upper()}": value for name, value in (usual | settings).items()}


@contextmanager
def serving(
    folder: Path, dsn: str, provider_url: str, *, public_port: int | None = None, name: str = "service",
    arguments: tuple[str, ...] = (), ready: bool = True, **settings: str,
) -> Iterator[Service]:  # fmt: skip
    """Runs `cuadre serve`; with `ready`, waits until it is."""
    public, internal = public_port or free_port(), free_port()
    environment = service_environment(
        dsn, provider_url, public_port=str(public), internal_port=str(internal), **settings
    )
    with process(folder, name, "service", "serve", *arguments, environment=environment) as running:
        service = Service(running, public, internal)
        if ready:
            until_sync(service.is_ready, what=f"{name} is ready: {running.output()[-2000:]}", seconds=30)
        yield service


@contextmanager
def frozen(server: int) -> Iterator[None]:
    """A server's process and its children stand still. Linux only: reads /proc."""
    os.kill(server, signal.SIGSTOP)  # first, so that it starts no others
    stopped = [server]
    for child in _children(server):
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(child, signal.SIGSTOP)
            stopped.append(child)
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(stat.parent.name))
    return found
