"""The PostgreSQL server that all test processes of one run share; run as a program, this module supervises it.

The server ends when no test process is left. Each of them keeps the writing end of a named pipe open, and the
supervisor reads the end of file when the last one is gone, however it went: the kernel closes the pipes of a process
killed with `kill -9`, too.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from service.database.embedded import EmbeddedPostgres
from service.database.migrations import migrate

TEMPLATE: Final = "cuadre_template"
ROOT: Final = Path(__file__).resolve().parents[1]

# Nothing on this server is to be kept; durability is tested on servers of the tests' own.
SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "2GB",
}


def with_database(dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


class SharedServer:
    """One test process's share in the server: while it is held, the server lives."""

    def __init__(self, dsn: str, life: int, supervisor: "subprocess.Popen[bytes] | None") -> None:
        self.dsn = dsn
        self._life = life
        self._supervisor = supervisor

    def leave(self, *, wait: bool) -> None:
        """Give the share back. `wait` for the server's end: only where nobody else can have a share."""
        os.close(self._life)
        if self._supervisor is None:
            return
        if wait:
            self._supervisor.wait(60)
        else:
            # Others may still use the server. Python would complain of a child that nobody awaited.
            self._supervisor.returncode = 0


def join(folder: Path) -> SharedServer:
    """A share in the server of the run that has `folder` in common; the first to come starts it."""
    state = folder / "postgres.json"
    with _only_one(folder / "postgres.lock"):
        if state.exists():
            told = json.loads(state.read_text(encoding="utf-8"))
            with contextlib.suppress(OSError):  # nobody reads that pipe any more: the server went with its last user
                return SharedServer(told["dsn"], os.open(told["life"], os.O_WRONLY | os.O_NONBLOCK), None)
        home = Path(tempfile.mkdtemp(prefix="postgres-", dir=folder))
        server = _start(home)
        unfinished = state.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"dsn": server.dsn, "life": str(home / "life")}), encoding="utf-8")
        unfinished.rename(state)
        return server


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(home: Path) -> SharedServer:
    os.mkfifo(home / "life")
    reader = os.open(home / "life", os.O_RDONLY | os.O_NONBLOCK)
    life = os.open(home / "life", os.O_WRONLY)
    try:
        with (home / "supervisor.log").open("wb") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "tests.shared_postgres", str(home)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for pytest, whose fixtures still need the server
            )
        assert supervisor.stdout is not None
        with supervisor.stdout as answer:
            dsn = answer.readline().decode().strip()
        if not dsn:
            lines = (home / "supervisor.log").read_text(encoding="utf-8").strip().splitlines()
            raise RuntimeError(f"the tests' PostgreSQL did not start: {lines[-1] if lines else 'no reason given'}")
    except BaseException:
        os.close(life)
        raise
    finally:
        os.close(reader)
    return SharedServer(dsn, life, supervisor)


class Maintenance:
    """A connection for CREATE and DROP DATABASE with a thread and an event loop of its own, so that fixtures of
    synchronous and of asynchronous tests can use it alike.
    """

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="maintenance", daemon=True)
        self._thread.start()
        self._connection: asyncpg.Connection[asyncpg.Record] = self._run(
            asyncpg.connect(with_database(dsn, "postgres"), statement_cache_size=0)
        )

    def execute(self, statement: str) -> None:
        """Run one statement and wait for its end."""
        self._run(self._connection.execute(statement))

    def close(self) -> None:
        """Close connection, loop and thread."""
        self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        async def await_it() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(await_it(), self._loop).result()


async def _make_template(dsn: str) -> None:
    connection = await asyncpg.connect(with_database(dsn, "postgres"))
    try:
        await connection.execute(f"create database {TEMPLATE}")
    finally:
        await connection.close()
    await migrate(with_database(dsn, TEMPLATE))


def supervise(home: Path) -> None:
    """Run the server until nobody holds the pipe `life` any more; prints its DSN when it is ready."""
    life = os.open(home / "life", os.O_RDONLY)
    data = home / "data"
    with EmbeddedPostgres(data, settings=SETTINGS) as server:
        asyncio.run(_make_template(server.dsn))
        sys.stdout.write(f"{server.dsn}\n")
        sys.stdout.flush()
        while os.read(life, 1):
            pass
    shutil.rmtree(data, ignore_errors=True)  # pytest keeps the folders of its last runs


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
