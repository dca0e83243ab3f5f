"""PostgreSQL from a wheel, under our own supervision: for `cuadre demo` and the tests, with nothing to install.

The server listens on a unix socket in a private folder and nowhere else, asks for a password (SCRAM), and ends when
the process that started it ends: in order, by Ctrl-C, by SIGTERM, by `kill -9`. As root it runs as `nobody`.

A data folder holds `cluster` (PostgreSQL's own), `password`, `server.log`, `lock` and `run` (the socket).
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Self
from urllib.parse import quote

import asyncpg

from service.database.embedded_folder import PORT, DataFolder
from service.database.embedded_lifeline import TiedProcess, in_lasting_thread, start_tied
from service.database.embedded_program import ENVIRONMENT, Program, find_program, last_lines, server_user
from service.database.errors import EmbeddedPostgresError

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "default_data_dir"]

DATABASE: Final = "cuadre"
START_TIMEOUT_SECONDS: Final = 120.0
STOP_TIMEOUT_SECONDS: Final = 60.0

StopMode = Literal["smart", "fast", "immediate"]

_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "cluster_name": "cuadre",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",  # nosec B105 - names a method
    # The default of a minute is too slow for a small table that is updated all the time.
    "autovacuum_naptime": "10s",
}


def default_data_dir() -> Path:
    """Where a server's data goes if nobody says otherwise: the user's data folder of the platform."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        named = os.environ.get("XDG_DATA_HOME", "")
        # The specification has relative paths ignored.
        base = Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "share"
    return base / "cuadre" / "postgres"


class EmbeddedPostgres:
    """One server in one data folder. Synchronous; from async code use `asyncio.to_thread`, from any thread.

    `settings` are PostgreSQL's, added to ours. `program` is another installation than the embedded one.
    Every failure is an EmbeddedPostgresError whose one line says what to do.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        settings: Mapping[str, str] = MappingProxyType({}),
        program: Program | None = None,
    ) -> None:
        self.data_dir = (data_dir or default_data_dir()).absolute()
        self._settings = {**_SETTINGS, **settings}
        self._program = program
        self._folder: DataFolder | None = None
        self._server: TiedProcess | None = None
        self._dsn: str | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, None when it does not run (any more)."""
        return self._server.pid if self._server is not None and self._server.poll() is None else None

    @property
    def dsn(self) -> str:
        """Where the database `cuadre` is, for asyncpg and libpq alike; holds the password."""
        if self._dsn is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL is not started")
        return self._dsn

    def start(self) -> str:
        """Start the server, made anew where there is none, and return `dsn` when it takes connections."""
        if self.pid is not None:
            raise EmbeddedPostgresError(f"this embedded PostgreSQL runs already, with pid {self.pid}")
        self._let_go()
        user = server_user()
        program = self._program or find_program(user)
        folder = DataFolder(self.data_dir, user)
        folder.take()
        self._folder = folder
        try:
            _initialise(folder, program)
            self._launch(folder, program)
            dsn = _dsn(folder)
            in_lasting_thread(lambda: asyncio.run(_make_database(dsn, DATABASE)))
        except BaseException as error:
            self.stop("immediate")
            if isinstance(error, OSError):
                raise EmbeddedPostgresError(f"PostgreSQL in {self.data_dir} cannot be used: {error}") from error
            raise
        self._dsn = dsn
        return dsn

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait for its end. `fast` breaks connections off, `smart` awaits them (a minute at most),
        `immediate` is as good as a crash. Does nothing when none runs.
        """
        if self._server is not None:
            for number in (_SIGNALS[mode], signal.SIGQUIT, signal.SIGKILL):
                self._server.send_signal(number)
                try:
                    self._server.wait(STOP_TIMEOUT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
        self._let_go()

    def restart(self, mode: StopMode = "fast") -> str:
        """Stop and start. The DSN may be another one where the data folder's path is too long for a socket."""
        self.stop(mode)
        return self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, folder: DataFolder, program: Program) -> None:
        socket_folder = folder.socket_folder()
        with folder.open_log() as log, folder.as_server_sees_it() as (seen, descriptors):
            if socket_folder.is_relative_to(folder.path):
                socket_folder = seen / socket_folder.relative_to(folder.path)
            settings = {**self._settings, "unix_socket_directories": str(socket_folder)}
            said_before = folder.log.stat().st_size
            self._server = start_tied(
                [
                    str(program.bin / "postgres"),
                    *("-D", str(seen / folder.cluster.name)),
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                ],
                user=folder.user,
                environment=ENVIRONMENT,
                output=log,
                pass_fds=descriptors,
            )
        _await_ready(self._server, folder, said_before)

    def _let_go(self) -> None:
        if self._server is not None:
            self._server.ended()
            self._server = None
        if self._folder is not None:
            self._folder.release()
            self._folder = None
        self._dsn = None


def _initialise(folder: DataFolder, program: Program) -> None:
    """Make the cluster if there is none, whole or not at all."""
    password = folder.password()
    version_file = folder.cluster / "PG_VERSION"
    if folder.cluster.exists():
        version = version_file.read_text(encoding="ascii").strip() if version_file.exists() else "unknown"
        if version != str(program.major):
            raise EmbeddedPostgresError(
                f"the data in {folder.path} is of PostgreSQL {version}, and this is PostgreSQL {program.major}; "
                "move it away or choose another folder"
            )
        return
    unfinished = folder.path / "cluster.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    folder.make_for_server(unfinished)
    _run_initdb(folder, program, unfinished, password)
    unfinished.rename(folder.cluster)


def _run_initdb(folder: DataFolder, program: Program, target: Path, password: str) -> None:
    password_file = folder.path / "password.initdb"
    password_file.unlink(missing_ok=True)
    folder.write_private(password_file, password + "\n", for_server=True)
    # The same order of texts on every machine, whatever locales it has.
    locale = ["--no-locale"]
    if program.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    try:
        with folder.open_log() as log, folder.as_server_sees_it() as (seen, descriptors):
            said_before = folder.log.stat().st_size
            process = start_tied(
                [
                    str(program.bin / "initdb"),
                    f"--pgdata={seen / target.name}",
                    f"--username={DATABASE}",
                    f"--pwfile={seen / password_file.name}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--no-instructions",
                    *locale,
                ],
                user=folder.user,
                environment=ENVIRONMENT,
                output=log,
                pass_fds=descriptors,
            )
            try:
                code = process.wait(START_TIMEOUT_SECONDS)
            except BaseException:
                process.send_signal(signal.SIGKILL)
                raise
            finally:
                process.ended()
    except subprocess.TimeoutExpired:
        raise EmbeddedPostgresError(f"initdb in {folder.path} did not end in {START_TIMEOUT_SECONDS:.0f} s") from None
    finally:
        password_file.unlink(missing_ok=True)
    if code != 0:
        raise EmbeddedPostgresError(f"cannot make a database in {folder.path}: {_said(folder, said_before)}")


def _await_ready(server: TiedProcess, folder: DataFolder, said_before: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        code = server.poll()
        if code is not None:
            raise EmbeddedPostgresError(f"PostgreSQL did not start in {folder.path}: {_said(folder, said_before)}")
        lines = folder.pid_file_lines()
        # A file left by `kill -9` says ready, too; with another pid.
        if lines and lines[0] == str(server.pid) and lines[-1].strip() == "ready":
            return
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(
                f"PostgreSQL in {folder.path} is not ready after {START_TIMEOUT_SECONDS:.0f} s: "
                f"{_said(folder, said_before)}"
            )
        time.sleep(0.01)


def _said(folder: DataFolder, since: int) -> str:
    with folder.log.open("rb") as log:
        log.seek(since)
        said = last_lines(log.read().decode(errors="replace"))
    return f"{said} (see {folder.log})"


def _dsn(folder: DataFolder) -> str:
    host = quote(str(folder.socket_folder()), safe="")
    return f"postgresql://{DATABASE}:{quote(folder.password())}@/{DATABASE}?host={host}&port={PORT}"


async def _make_database(dsn: str, name: str) -> None:
    connection = await asyncpg.connect(dsn, database="postgres", timeout=START_TIMEOUT_SECONDS)
    try:
        if not await connection.fetchval("select exists (select from pg_database where datname = $1)", name):
            await connection.execute(f'create database "{name}"')
    finally:
        await connection.close()
