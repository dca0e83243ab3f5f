"""`cuadre serve` processes that are killed, frozen and started again, each on ports of its own."""

import contextlib
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import Process, call, free_port, process


class Replica:
    """One of several. A context manager: nothing of it is left after the block."""

    def __init__(self, folder: Path, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.public_port, self.internal_port = free_port(), free_port()
        self._folder = folder
        self._environment = dict(environment) | {
            "CUADRE_PUBLIC_PORT": str(self.public_port),
            "CUADRE_INTERNAL_PORT": str(self.internal_port),
        }
        self._running = contextlib.ExitStack()
        self.process: Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.tied.pid

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self.public_port}/webhooks/mercadopago"

    def start(self) -> None:
        """A new process; does not wait until it is ready."""
        self.process = self._running.enter_context(
            process(self._folder, self.name, "service", "serve", environment=self._environment)
        )

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self._running.close()
            self.process = None

    def terminate(self, seconds: float = 30.0) -> int | None:
        """SIGTERM, as a rolling update sends it; the exit code, None where it had to be killed."""
        code: int | None = None
        if self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(seconds)
            self._running.close()
            self.process = None
        return code

    def freeze(self) -> None:
        """Stands still as a stopped virtual machine does: its clock goes on, and nothing of it runs."""
        if self.process is not None:
            self.process.tied.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.tied.send_signal(signal.SIGCONT)

    def is_ready(self) -> bool:
        return call(f"http://127.0.0.1:{self.internal_port}/readyz", timeout=5)[0] == 200

    @property
    def log(self) -> Path:
        return self._folder / f"{self.name}.log"
