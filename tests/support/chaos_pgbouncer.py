"""PgBouncer in transaction mode before one Postgres at a time, as some houses run it."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service.database.embedded_lifeline import TiedProcess, start_tied
from service.database.embedded_program import server_user
from tests.support.processes import free_port

CONFIGURATION: Final = """
[databases]
cuadre = host={host} port=5432 dbname=cuadre user=cuadre password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
server_login_retry = 1
server_round_robin = 1
log_connections = 0
log_disconnections = 0
"""


def find_pgbouncer() -> str | None:
    """The program: beside Python, where `make optional-tools` puts it, or on the PATH."""
    beside = Path(sys.executable).parent / "pgbouncer"
    return str(beside) if beside.exists() else shutil.which("pgbouncer")


class PgBouncer:
    """One running PgBouncer; `point_to` follows a promotion as an operator's script would."""

    def __init__(self, folder: Path, program: str) -> None:
        self.port = free_port()
        self._file = folder / "pgbouncer.ini"
        self._log = folder / "pgbouncer.log"
        self._program = program
        self._process: TiedProcess | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://cuadre@127.0.0.1:{self.port}/cuadre"

    def point_to(self, host: str, password: str) -> None:
        """Another server from now on; connections to the one before are closed when they are given back."""
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.touch(mode=0o600)
        user = server_user()
        if user is not None:
            os.chown(unfinished, user.uid, user.gid)
        unfinished.write_text(CONFIGURATION.format(host=host, password=password, port=self.port), encoding="utf-8")
        unfinished.rename(self._file)
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = start_tied(
                [self._program, str(self._file)], user=server_user(), environment={"PATH": os.defpath}, output=log
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.ended()
            self._process = None


@contextlib.contextmanager
def pgbouncer(folder: Path, program: str, host: str, password: str) -> Iterator[PgBouncer]:
    """Runs until the block ends."""
    bouncer = PgBouncer(folder, program)
    bouncer.point_to(host, password)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.stop()
