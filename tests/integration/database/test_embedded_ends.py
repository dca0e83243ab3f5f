"""Nothing is left running, however the process that started the embedded server ends."""

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from service.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.integration.database.conditions import is_running, wait_until
from tests.shared_postgres import ROOT

PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from service.database import embedded_lifeline
from service.database.embedded import EmbeddedPostgres
if sys.argv[2] == "watcher":
    embedded_lifeline.KERNEL_TIES = False  # as on macOS
server = EmbeddedPostgres(Path(sys.argv[1]))
# From a thread that ends: the server must outlive that one, and nothing else.
with ThreadPoolExecutor() as threads:
    threads.submit(server.start).result()
print(server.pid, flush=True)
sys.stdin.read()
server.stop()
"""
TIES = pytest.mark.parametrize("tie", ["kernel", "watcher"])
NOBODY = 65534
ENVIRONMENT = {
    "PATH": os.defpath,
    "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("platlib")]),
    "PYTHONDONTWRITEBYTECODE": "1",
}


@pytest.fixture(params=["as we are", "as an ordinary user"])
def ordinary(request: pytest.FixtureRequest) -> bool:
    wanted: bool = request.param == "as an ordinary user"
    if wanted and os.geteuid() != 0:
        pytest.skip("we are an ordinary user, and only root can become another")
    return wanted


@pytest.fixture
def fresh_data(*, ordinary: bool) -> Iterator[Path]:
    """A folder that is still to be made."""
    # Not tmp_path: pytest's folders are closed to the ordinary user.
    parent = Path(tempfile.mkdtemp(prefix="cuadre-test-"))
    if ordinary:
        os.chown(parent, NOBODY, NOBODY)
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def data(fresh_data: Path, pristine_data: Path, *, ordinary: bool) -> Path:
    """A folder that a server has already used: to start on it is cheaper."""
    subprocess.run(["cp", "-pR", pristine_data, fresh_data], check=True)
    if ordinary:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", fresh_data], check=True)
    return fresh_data


def start_owner(data: Path, tie: str, *, ordinary: bool) -> "tuple[subprocess.Popen[str], int]":
    owner = subprocess.Popen(
        [_python_for_nobody() if ordinary else sys.executable, "-c", PROGRAM, str(data), tie],
        cwd="/",
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=NOBODY if ordinary else None,
        group=NOBODY if ordinary else None,
        extra_groups=[] if ordinary else None,
    )
    assert owner.stdout is not None
    line = owner.stdout.readline()
    if not line:
        raise AssertionError(owner.communicate()[1])
    return owner, int(line)


@functools.cache
def _python_for_nobody() -> str:
    """This Python may stand under /root; then the system's, if it is of the same version."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            subprocess.run(
                [python, "-c", "import service.database.embedded"], check=True, cwd="/", user=NOBODY, group=NOBODY,
                extra_groups=[], env=ENVIRONMENT, capture_output=True,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("no Python here that an ordinary user may run with these packages")


@TIES
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "SIGINT", "in order"])
def test_the_server_ends_with_its_owner(data: Path, tie: str, end: str, *, ordinary: bool) -> None:
    owner, server = start_owner(data, tie, ordinary=ordinary)
    assert is_running(server)
    if end == "in order":
        owner.communicate("")
        assert owner.returncode == 0
        assert not is_running(server), "stopped before its owner ended"
    else:
        owner.send_signal(signal.Signals[end])
        owner.communicate()
    wait_until(lambda: not is_running(server), "the server has ended")
    assert not (data / "cluster" / "postmaster.pid").exists(), "it was shut down, not cut"


@TIES
def test_the_next_start_awaits_the_end_of_the_former_server(data: Path, tie: str, *, ordinary: bool) -> None:
    owner, server = start_owner(data, tie, ordinary=ordinary)
    owner.kill()
    next_owner, next_server = start_owner(data, tie, ordinary=ordinary)  # at once
    assert next_server != server
    assert not is_running(server)
    next_owner.communicate("")
    owner.communicate()


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server(data: Path, *, ordinary: bool) -> None:
    owner, server = start_owner(data, "kernel", ordinary=ordinary)
    assert os.getsid(server) != os.getsid(owner.pid), "the owner decides when it stops, after its own work"
    owner.communicate("")


def test_everything_killed_at_once(fresh_data: Path, *, ordinary: bool) -> None:
    """As a container's end: the next start finds a stale pid file, recovers, and has the rows."""
    data = fresh_data
    owner, server = start_owner(data, "kernel", ordinary=ordinary)
    os.kill(server, signal.SIGKILL)
    owner.kill()
    owner.communicate()
    wait_until(lambda: not is_running(server), "the server is killed")
    assert (data / "cluster" / "postmaster.pid").exists()
    next_owner, next_server = start_owner(data, "kernel", ordinary=ordinary)
    assert is_running(next_server)
    next_owner.communicate("")


def test_two_owners_at_once_on_a_fresh_folder(tmp_path: Path) -> None:
    async def race() -> list[object]:
        return await asyncio.gather(*(asyncio.to_thread(s.start) for s in servers), return_exceptions=True)

    servers = [EmbeddedPostgres(tmp_path / "data") for _ in range(3)]
    try:
        answers = asyncio.run(race())
        assert [isinstance(answer, str) for answer in answers].count(True) == 1
        assert all(isinstance(answer, str | EmbeddedPostgresError) for answer in answers)
    finally:
        for server in servers:
            server.stop()


async def test_acknowledged_rows_survive_kill_9_of_everything(own_postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(own_postgres.dsn)
    await connection.execute("create table t (n integer)")
    await connection.execute("insert into t select generate_series(1, 1000)")
    assert own_postgres.pid is not None
    os.kill(own_postgres.pid, signal.SIGKILL)
    connection.terminate()
    wait_until(lambda: own_postgres.pid is None, "the server is killed")
    await asyncio.to_thread(own_postgres.start)
    connection = await asyncpg.connect(own_postgres.dsn)
    assert await connection.fetchval("select count(*) from t") == 1000
    await connection.close()
