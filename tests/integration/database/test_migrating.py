"""Migrating a real database: many at once, killed in the middle, refused, resumed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.database.embedded import EmbeddedPostgres
from service.database.embedded_program import find_program, program_at, server_user
from service.database.errors import EmbeddedPostgresError
from service.database.migrations import LOCK_KEY, MigrationError, load_migrations, migrate, schema_state
from tests.integration.database.conditions import wait_until_async
from tests.shared_postgres import ROOT

PROGRAM = """
import asyncio, sys
from pathlib import Path
from service.database.migrations import load_migrations, migrate
print(asyncio.run(migrate(sys.argv[1], migrations=load_migrations(Path(sys.argv[2])))))
"""
TABLE = "create table cuadre.things (n integer);"
INDEX = "-- no-transaction\ncreate unique index concurrently if not exists things_n on cuadre.things (n);"


@pytest.fixture
async def connection(empty_dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(empty_dsn)
    yield opened
    await opened.close()


def migration_folder(parent: Path, name: str, *texts: str) -> Path:
    folder = parent / name
    folder.mkdir()
    for number, text in enumerate(texts, start=1):
        (folder / f"{number:04d}_step.sql").write_text(text, encoding="utf-8")
    return folder


def start_migrating(dsn: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, dsn, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_a_fresh_database(empty_dsn: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    lines: list[str] = []
    labels = [migration.label for migration in load_migrations()]
    assert await migrate(empty_dsn, on_progress=lines.append) == labels
    assert lines == [f"applying {label}" for label in labels]
    assert (await schema_state(connection)).state == "current"
    assert await migrate(empty_dsn, on_progress=lines.append) == []
    assert len(lines) == len(labels)
    months = await connection.fetchval("select count(*) from pg_class where relname ~ '^events_[0-9]{6}$'")
    assert months == 4, "this month and three ahead"
    row = await connection.fetchrow("select * from cuadre.schema_migrations where number = 1")
    assert row is not None
    assert row["applied_at"] is not None
    assert row["duration"] is not None


async def test_months_are_made_ahead_even_when_no_migration_is_pending(
    empty_dsn: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await migrate(empty_dsn)
    month = await connection.fetchval("select max(relname) from pg_class where relname ~ '^events_[0-9]{6}$'")
    await connection.execute(f"drop table cuadre.{month}")
    await migrate(empty_dsn)
    assert await connection.fetchval("select to_regclass($1) is not null", f"cuadre.{month}")


@pytest.mark.slow
@pytest.mark.parametrize("migrations", ["ours", "with an index built concurrently"])
def test_four_processes_at_once(empty_dsn: str, tmp_path: Path, migrations: str) -> None:
    folder = ROOT / "migrations" if migrations == "ours" else migration_folder(tmp_path, "m", TABLE, INDEX)
    processes = [start_migrating(empty_dsn, folder) for _ in range(4)]
    try:
        answers = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0] * 4, answers
    applied = [label for output, _ in answers for label in output.replace("'", "").strip("[]\n").split(", ") if label]
    assert sorted(applied) == [migration.label for migration in load_migrations(folder)], "each once, by anybody"


async def test_killed_in_the_middle(
    empty_dsn: str, tmp_path: Path, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    folder = migration_folder(
        tmp_path, "m", TABLE, "alter table cuadre.things add column m integer; select pg_advisory_xact_lock(42);"
    )
    await connection.execute("select pg_advisory_lock(42)")
    process = start_migrating(empty_dsn, folder)
    in_the_middle = (
        "select count(*) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
    )
    await wait_until_async(lambda: connection.fetchval(in_the_middle), "the second migration is in its middle")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    state = await schema_state(connection, load_migrations(folder))
    assert (state.state, state.pending) == ("older", ("0002_step",))
    await connection.execute("select pg_advisory_unlock(42)")
    assert await migrate(empty_dsn, migrations=load_migrations(folder)) == ["0002_step"]
    assert (await schema_state(connection, load_migrations(folder))).state == "current"


async def test_a_failed_migration_leaves_nothing_of_itself(
    empty_dsn: str, tmp_path: Path, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    broken = migration_folder(tmp_path, "broken", TABLE, "create table cuadre.more ();\nselect nonsense;")
    with pytest.raises(MigrationError, match='0002_step failed: column "nonsense" does not exist') as caught:
        await migrate(empty_dsn, migrations=load_migrations(broken))
    assert "\n" not in str(caught.value)
    assert await connection.fetchval("select to_regclass('cuadre.more') is null")
    assert (await schema_state(connection, load_migrations(broken))).pending == ("0002_step",)
    mended = migration_folder(tmp_path, "mended", TABLE, "create table cuadre.more ();")
    assert await migrate(empty_dsn, migrations=load_migrations(mended)) == ["0002_step"]


async def test_a_changed_migration_is_refused(empty_dsn: str, tmp_path: Path) -> None:
    before = migration_folder(tmp_path, "before", TABLE)
    await migrate(empty_dsn, migrations=load_migrations(before))
    after = migration_folder(tmp_path, "after", TABLE + " -- better", "select 1;")
    with pytest.raises(MigrationError, match="0001_step was changed after it had been applied"):
        await migrate(empty_dsn, migrations=load_migrations(after))


async def test_an_older_build_is_refused(
    empty_dsn: str, tmp_path: Path, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    newer = load_migrations(migration_folder(tmp_path, "m", TABLE, "select 1;"))
    await migrate(empty_dsn, migrations=newer)
    with pytest.raises(MigrationError, match="does not know"):
        await migrate(empty_dsn, migrations=newer[:1])
    assert (await schema_state(connection, newer[:1])).state == "unknown"


async def test_a_gap_in_the_history_is_refused(
    empty_dsn: str, tmp_path: Path, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    migrations = load_migrations(migration_folder(tmp_path, "m", TABLE, "select 1;", "select 2;"))
    await migrate(empty_dsn, migrations=migrations)
    await connection.execute("delete from cuadre.schema_migrations where number = 2")
    with pytest.raises(MigrationError, match="0003_step where 0002 should be"):
        await migrate(empty_dsn, migrations=migrations)


async def test_another_process_that_does_not_end(
    empty_dsn: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    lines: list[str] = []
    async with connection.transaction():
        assert await connection.fetchval("select pg_try_advisory_xact_lock($1)", LOCK_KEY)
        with pytest.raises(MigrationError, match="another process has been migrating"):
            await migrate(empty_dsn, wait_seconds=0.3, on_progress=lines.append)
    assert lines == ["another process is migrating; waiting for it"]
    assert await migrate(empty_dsn) != []


async def test_a_lock_that_is_not_to_be_had_is_asked_for_again(
    empty_dsn: str, tmp_path: Path, connection: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.database.migrations._LOCK_TIMEOUT", "50ms")
    migrations = load_migrations(migration_folder(tmp_path, "m", TABLE, "alter table cuadre.things add column m int;"))
    await migrate(empty_dsn, migrations=migrations[:1])
    waiting = "select count(*) from pg_locks where not granted and relation = 'cuadre.things'::regclass"
    async with connection.transaction():
        await connection.execute("select * from cuadre.things")
        migrating = asyncio.ensure_future(migrate(empty_dsn, migrations=migrations))
        await wait_until_async(lambda: connection.fetchval(waiting), "it waits for the table")
    assert await migrating == ["0002_step"]
    monkeypatch.setattr("service.database.migrations._LOCK_ATTEMPTS", 2)
    further = load_migrations(
        migration_folder(tmp_path, "n", migrations[0].sql, migrations[1].sql, "drop table cuadre.things;")
    )
    async with connection.transaction():
        await connection.execute("select * from cuadre.things")
        with pytest.raises(MigrationError, match="0003_step: could not lock its tables in 2 attempts"):
            await migrate(empty_dsn, migrations=further)


async def test_an_index_that_cannot_be_built_concurrently(
    empty_dsn: str, tmp_path: Path, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    migrations = load_migrations(
        migration_folder(tmp_path, "m", TABLE + "insert into cuadre.things values (1), (1);", INDEX)
    )
    with pytest.raises(
        MigrationError, match=r"0002_step failed: .*; first run: drop index concurrently cuadre\.things_n"
    ):
        await migrate(empty_dsn, migrations=migrations)
    # `if not exists` would now take the rest of it for an index.
    with pytest.raises(MigrationError, match=r"left unfinished; first run: drop index concurrently cuadre\.things_n"):
        await migrate(empty_dsn, migrations=migrations)
    await connection.execute("drop index concurrently cuadre.things_n")
    await connection.execute("delete from cuadre.things")
    assert await migrate(empty_dsn, migrations=migrations) == ["0002_step"]
    valid = await connection.fetchval("select indisvalid from pg_index where indexrelid = 'cuadre.things_n'::regclass")
    assert valid is True


async def test_one_statement_only_outside_a_transaction(empty_dsn: str, tmp_path: Path) -> None:
    migrations = load_migrations(migration_folder(tmp_path, "m", TABLE, INDEX + "\nselect 1;"))
    with pytest.raises(MigrationError, match="multiple commands"):
        await migrate(empty_dsn, migrations=migrations)


async def test_migrated_step_by_step_equals_made_in_one_go(
    empty_dsn: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await migrate(empty_dsn)
    migrated = await asyncio.to_thread(dump, empty_dsn)
    await connection.execute("drop schema cuadre cascade")
    for migration in load_migrations():
        await connection.execute(migration.sql)
    assert await asyncio.to_thread(dump, empty_dsn) == migrated


def dump(dsn: str) -> list[str]:
    pg_dump = find_program(server_user()).bin / "pg_dump"
    text = subprocess.run(
        [pg_dump, "--schema-only", "--exclude-table=cuadre.schema_migrations", dsn],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # Since 18.1, a random word guards each dump.
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


@pytest.mark.parametrize("folder", sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [None], ids=str)
async def test_on_the_servers_of_this_machine(tmp_path: Path, folder: Path | None) -> None:
    if folder is None:
        pytest.skip("no PostgreSQL is installed in /usr/lib/postgresql")
    try:
        program = program_at(folder, server_user())
    except EmbeddedPostgresError as error:
        pytest.skip(f"no server there: {error}")
    with EmbeddedPostgres(tmp_path / "data", program=program) as server:
        assert await migrate(server.dsn) == [migration.label for migration in load_migrations()]
        connection = await asyncpg.connect(server.dsn)
        try:
            assert (await schema_state(connection)).state == "current"
        finally:
            await connection.close()
