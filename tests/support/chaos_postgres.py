"""A primary and its streaming standby, both as durable as in production: a commit is told of once both have it.

    with a_pair(folder) as pair:
        pair.dsn              names both hosts; whoever takes writes is chosen
        pair.restart("fast")  the primary
        pair.fail_over()      the primary dies, the standby is promoted

The folder's path must be short (sockets live in it) and open to the server's user.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

from service.database.embedded import EmbeddedPostgres, StopMode
from service.database.embedded_folder import DataFolder
from service.database.embedded_lifeline import start_tied
from service.database.embedded_program import ENVIRONMENT, find_program, server_user
from tests.support.waiting import until

COPY_SECONDS: Final = 60.0
PROMOTE_SECONDS: Final = 30
SETTINGS: Final = {
    "max_connections": "150",
    "max_wal_size": "2GB",
    # A standby that lost its primary for a moment comes back soon: commits wait for it.
    "wal_retrieve_retry_interval": "200ms",
    "wal_receiver_timeout": "10s",
    "wal_sender_timeout": "10s",
}
IS_SYNCHRONOUS: Final = """
    select exists (select from pg_stat_replication where sync_state = 'sync' and state = 'streaming')
"""


@contextlib.contextmanager
def short_folder(prefix: str = "cuadre-chaos-") -> Iterator[Path]:
    """A folder with a short path through which the server's user may pass; gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # sockets need a short path
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PostgresPair:
    """Two servers; after `fail_over` one. Synchronous; from async code use `asyncio.to_thread`."""

    def __init__(self, folder: Path) -> None:
        self._folders = (folder / "a", folder / "b")
        self.primary = EmbeddedPostgres(self._folders[0], settings=SETTINGS)
        self.standby: EmbeddedPostgres | None = None
        self.password = ""

    @property
    def dsn(self) -> str:
        """Both hosts, for the service: the one that takes writes is the one to talk to."""
        hosts = ",".join(str(folder / "run") for folder in self._folders)
        return f"postgresql://cuadre:{self.password}@/cuadre?host={hosts}&target_session_attrs=read-write"

    @property
    def host(self) -> str:
        """The socket folder of the primary there is now."""
        return str(self.primary.data_dir / "run")

    def start(self) -> None:
        """Starts both; from here on every commit waits for the standby."""
        self.password = str(urlsplit(self.primary.start()).password)
        assert parse_qs(urlsplit(self.primary.dsn).query)["host"] == [self.host], "the folder's path is too long"
        _copy(self._folders[1], self.host, self.password)
        self.standby = EmbeddedPostgres(self._folders[1], settings=SETTINGS)
        self.standby.start()
        ask(self.primary.dsn, "alter system set synchronous_standby_names = '*'")
        ask(self.primary.dsn, "select pg_reload_conf()")
        self.until_synchronous()

    def until_synchronous(self) -> None:
        """Returns once the primary counts on the standby."""
        asyncio.run(_until_synchronous(self.primary.dsn))

    def restart(self, mode: StopMode) -> None:
        """The primary goes down, `fast` or `immediate`, and comes back."""
        self.primary.restart(mode)

    def fail_over(self) -> None:
        """The primary dies as by `kill -9`; the standby takes its place.

        Whoever promotes asks first whether the standby is in step, as cluster managers do: just after a crash of the
        primary it may not be, and what the crash made visible was told to nobody.
        """
        assert self.standby is not None, "there is one standby, and it was promoted"
        self.until_synchronous()
        assert self.primary.pid is not None
        os.kill(self.primary.pid, signal.SIGKILL)
        self.primary.stop("immediate")
        self.primary, self.standby = self.standby, None
        assert ask(self.primary.dsn, "select pg_promote(true, $1)", PROMOTE_SECONDS) is True

    def stop(self) -> None:
        """Both, at once."""
        for server in (self.standby, self.primary):
            if server is not None:
                server.stop("immediate")


@contextlib.contextmanager
def a_pair(folder: Path) -> Iterator[PostgresPair]:
    """A running pair, stopped after the block."""
    pair = PostgresPair(folder)
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()


def ask(dsn: str, query: str, *arguments: Any) -> Any:
    """The first value of a query on a connection of its own."""

    async def fetch() -> Any:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    return asyncio.run(fetch())


async def _until_synchronous(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)

    async def is_synchronous() -> bool:
        return bool(await connection.fetchval(IS_SYNCHRONOUS))

    try:
        await until(is_synchronous, what="the standby is in step", seconds=30)
    finally:
        await connection.close()


def _copy(target: Path, host: str, password: str) -> None:
    """`pg_basebackup` into a data folder that `EmbeddedPostgres` then takes as its own."""
    folder = DataFolder(target, server_user())
    folder.take()
    try:
        folder.write_private(folder.path / "password", password + "\n")
        folder.make_for_server(folder.cluster)
        program = find_program(folder.user)
        with folder.open_log() as log, folder.as_server_sees_it() as (seen, descriptors):
            process = start_tied(
                [
                    str(program.bin / "pg_basebackup"),
                    f"--pgdata={seen / folder.cluster.name}",
                    "--write-recovery-conf",
                    "--checkpoint=fast",
                    f"--dbname=host={host} port=5432 user=cuadre password={password} application_name=standby",
                ],
                user=folder.user,
                environment=ENVIRONMENT,
                output=log,
                pass_fds=descriptors,
            )
            code = process.wait(COPY_SECONDS)
            process.ended()
        assert code == 0, folder.log.read_text(encoding="utf-8", errors="replace")[-500:]
    finally:
        folder.release()
