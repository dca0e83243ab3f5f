"""What the demo runs: an embedded Postgres, the simulator and the service, on loopback, as real processes.

All of it ends with the demo, however the demo ends. The data folder holds `postgres` (kept between runs) and `demo`:
the logs of the latest run and the files that configure the service, readable by their owner alone.
"""

import hashlib
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import service
from service.cli.failures import CommandError
from service.database.embedded import EmbeddedPostgres, default_data_dir
from service.database.embedded_lifeline import TiedProcess, start_tied
from service.database.embedded_program import last_lines

HOST: Final = "127.0.0.1"
STOP_SECONDS: Final = 10.0
USER_ID: Final = "2100457788"
APPLICATION_ID: Final = "5512340987654321"
# The simulator has no rate to respect, and a 429 halves the pace for a while.
RATE_PER_SECOND: Final = 1000
_LOG_TAIL_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to find what."""

    public: int
    internal: int
    simulator: int

    @property
    def internal_url(self) -> str:
        return f"http://{HOST}:{self.internal}"

    @property
    def simulator_url(self) -> str:
        return f"http://{HOST}:{self.simulator}"

    @property
    def webhook_url(self) -> str:
        return f"http://{HOST}:{self.public}/webhooks/mercadopago"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Made anew for every run; nothing but this run's processes takes them."""

    access_token: str
    webhook_secret: str
    api_key: str

    @classmethod
    def fresh(cls) -> "Secrets":
        return cls(*(secrets.token_urlsafe(24) for _ in range(3)))


class Child:
    """One process with its log. `name` stands in messages."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process: TiedProcess | None = start_tied(
                [sys.executable, "-m", *arguments], user=None, environment=environment, output=output
            )

    def check(self) -> None:
        """Raises `CommandError` with the end of its log where it has ended."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
            raise CommandError(f"{self.name} ended {how}: {last_lines(self._log_tail())} (see {self.log})")

    def stop(self) -> None:
        """Ends it, at the latest after some seconds."""
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                break
        self._process.ended()
        self._process = None

    def _log_tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


class Household:
    """Everything that runs for one demo. `stop` may be called at any time, and more than once."""

    def __init__(self, data_dir: Path | None) -> None:
        self.folder = (data_dir or default_data_dir().parent).expanduser().absolute()
        self.files = self.folder / "demo"
        self.run = datetime.now(UTC).strftime("demo-%Y%m%d-%H%M%S")
        self.secrets = Secrets.fresh()
        self.ports: Ports
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.children: list[Child] = []
        self._reservations: list[socket.socket] = []

    def start(self, seed: int) -> None:
        """Starts all three. Raises `CommandError` or `EmbeddedPostgresError`; what was started stays to be stopped."""
        try:
            self.files.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"cannot use the data folder {self.folder}: {error.strerror}") from None
        # The server first: it holds the folder, so that a second demo on it changes no file of the first.
        dsn = self.postgres.start()
        self.ports = Ports(*(self._reserve(port) for port in (8080, 9090, 8090)))
        environment = self._environment(dsn)
        arguments = ("--port", str(self.ports.simulator), "--seed", str(seed), "--webhook-url", "")
        self._child("the simulator", "simulator", ("service.simulator", *arguments), environment)
        self._child("the service", "service", ("service", "serve", "--migrate"), environment)

    def check(self) -> None:
        """Raises `CommandError` where a child has ended by itself."""
        for child in self.children:
            child.check()
        if self.postgres.pid is None:
            raise CommandError(f"PostgreSQL ended (see {self.folder / 'postgres' / 'server.log'})")

    def stop(self) -> None:
        """Ends all of it: the service first, then what it stands on."""
        for child in reversed(self.children):
            child.stop()
        self.children.clear()
        self.postgres.stop()
        while self._reservations:
            self._reservations.pop().close()

    def _reserve(self, port: int) -> int:
        """This port where it is free, else another one; no second demo takes it while ours is still starting."""
        while True:
            reservation = _reservation(port)
            if reservation is not None:
                self._reservations.append(reservation)
                return int(reservation.getsockname()[1])
            port = 0

    def webhook(self) -> dict[str, object]:
        """Where the simulator shall send notifications, and what signs them."""
        return {"url": self.ports.webhook_url, "secret": self.secrets.webhook_secret}

    @property
    def environment_file(self) -> Path:
        """A file to be read by a shell: it sets what `cuadre` needs to look into this run."""
        return self.files / "environment.sh"

    def _child(self, name: str, log: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.children.append(Child(name, arguments, environment, self.files / f"{log}.log"))

    def _environment(self, dsn: str) -> dict[str, str]:
        """The settings of the service, also written down for the reader; nothing of the caller's own settings."""
        account = {
            "name": self.run,
            "user_id": USER_ID,
            "application_ids": [APPLICATION_ID],
            "access_token": self.secrets.access_token,
            "webhook_secrets": [self.secrets.webhook_secret],
            "rate_per_second": RATE_PER_SECOND,
        }
        digest = hashlib.sha256(self.secrets.api_key.encode()).hexdigest()
        key = {"name": self.run, "sha256": digest, "scopes": ["money"]}
        settings = {
            "CUADRE_DATABASE_URL": dsn,
            "CUADRE_MERCADOPAGO_URL": self.ports.simulator_url,
            "CUADRE_ACCOUNTS_FILE": str(self._private("accounts.json", json.dumps([account], indent=2))),
            "CUADRE_API_KEYS_FILE": str(self._private("api-keys.json", json.dumps([key], indent=2))),
            "CUADRE_PUBLIC_HOST": HOST,
            "CUADRE_PUBLIC_PORT": str(self.ports.public),
            "CUADRE_INTERNAL_HOST": HOST,
            "CUADRE_INTERNAL_PORT": str(self.ports.internal),
        }
        lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
        lines.append(f"export API_KEY={shlex.quote(self.secrets.api_key)}")
        lines.append(f"export API={shlex.quote(self.ports.internal_url)}")
        lines.append(f"export PROVIDER={shlex.quote(self.ports.simulator_url)}")
        self._private("environment.sh", "\n".join(lines))
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("CUADRE_")}
        return inherited | settings | {"PYTHONPATH": str(Path(service.__file__).parents[1]), "PYTHONUNBUFFERED": "1"}

    def _private(self, name: str, text: str) -> Path:
        """A file for its owner alone, new in every run."""
        path = self.files / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n")
        return path


def _reservation(port: int) -> socket.socket | None:
    """A free TCP port (0: any), held by a UDP socket of the same number: a child can listen on it, a second demo sees
    that it is taken. None where it is not free.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        with closing(socket.create_server((HOST, port))) as listener:
            reservation.bind(listener.getsockname()[:2])
    except OSError:
        reservation.close()
        return None
    return reservation
