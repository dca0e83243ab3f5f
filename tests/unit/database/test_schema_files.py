"""The migrations of a build, and how a database's history compares with them."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.database import schema
from service.database.errors import MigrationError
from service.database.schema import AppliedMigration, Migration, compare, load_migrations, schema_state


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(text, encoding="utf-8", newline="")
    return folder


def history(*migrations: Migration) -> list[AppliedMigration]:
    return [AppliedMigration(m.number, m.name, m.checksum) for m in migrations]


class FakeConnection:
    def __init__(self, rows: list[AppliedMigration] | None) -> None:
        self.rows = rows

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        if self.rows is None:
            raise asyncpg.UndefinedTableError("no such table")
        return [{"number": row.number, "name": row.name, "checksum": row.checksum} for row in self.rows]


@pytest.fixture
def three(tmp_path: Path) -> tuple[Migration, ...]:
    return load_migrations(write(tmp_path, m0001_a="select 1;", m0002_b="select 2;", m0003_c="select 3;"))


def test_this_build_has_its_migrations() -> None:
    migrations = load_migrations()
    assert [m.number for m in migrations] == list(range(1, len(migrations) + 1))
    assert migrations[0].label.startswith("0001_")


def test_in_a_wheel_the_migrations_are_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("service/database", "service/_migrations", "migrations"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(schema, "__file__", str(tmp_path / "service" / "database" / "schema.py"))
    write(tmp_path / "migrations", m0001_somebody_elses="select 1;")
    write(tmp_path / "service" / "_migrations", m0001_ours="select 1;")
    assert [migration.label for migration in load_migrations()] == ["0001_ours"]


def test_line_ends_do_not_count_in_the_checksum(tmp_path: Path) -> None:
    (tmp_path / "unix").mkdir()
    (tmp_path / "windows").mkdir()
    (unix,) = load_migrations(write(tmp_path / "unix", m0001_a="select 1;\nselect 2;\n"))
    (windows,) = load_migrations(write(tmp_path / "windows", m0001_a="select 1;\r\nselect 2;"))
    assert unix.checksum == windows.checksum
    assert unix.sql == windows.sql


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "no migrations in"),
        ({"m0002_b": "select 1"}, "0002_b stands where 0001 should"),
        ({"m0001_a": "select 1", "m0003_c": "select 1"}, "0003_c stands where 0002 should"),
        ({"m0001_a": "select 1", "m0001_b": "select 1"}, "0001_b stands where 0002 should"),
        ({"m1_a": "select 1"}, "no name for a migration"),
        ({"m0001_a": "-- no-transaction\ncreate index concurrently i on t (c);"}, "cannot be repeated"),
        ({"m0001_a": "-- no-transaction\ndrop index concurrently i;"}, "cannot be repeated"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    with pytest.raises(MigrationError, match=complaint) as caught:
        load_migrations(write(tmp_path, **files))
    assert "\n" not in str(caught.value)


def test_outside_a_transaction(tmp_path: Path) -> None:
    first, second = load_migrations(
        write(
            tmp_path,
            m0001_a="-- no-transaction\ncreate unique index concurrently if not exists i on t (c);",
            m0002_b="-- about\n-- no-transaction\nselect 1;",
        )
    )
    assert not first.in_transaction
    assert second.in_transaction, "only the first line decides"


def test_pending_is_what_the_history_lacks(three: tuple[Migration, ...]) -> None:
    assert list(compare(three, history(*three[:1]))) == list(three[1:])
    assert list(compare(three, history(*three))) == []


def test_a_gap_in_the_history(three: tuple[Migration, ...]) -> None:
    with pytest.raises(MigrationError, match="0003_c where 0002 should be"):
        compare(three, history(three[0], three[2]))


def test_a_changed_file(three: tuple[Migration, ...]) -> None:
    applied = history(*three)
    applied[1] = AppliedMigration(2, "b", "another")
    with pytest.raises(MigrationError, match="0002_b was changed after it had been applied"):
        compare(three, applied)


async def test_states(three: tuple[Migration, ...]) -> None:
    missing = await schema_state(FakeConnection(None), three)
    assert (missing.state, missing.pending) == ("missing", ("0001_a", "0002_b", "0003_c"))
    assert "run: cuadre migrate" in missing.advice
    assert (await schema_state(FakeConnection([]), three)).state == "missing"
    older = await schema_state(FakeConnection(history(*three[:2])), three)
    assert (older.state, older.pending) == ("older", ("0003_c",))
    assert "run: cuadre migrate" in older.advice
    assert (await schema_state(FakeConnection(history(*three)), three)).state == "current"
    newer = await schema_state(FakeConnection(history(*three)), three[:2])
    assert newer.state == "unknown"
    assert "0003_c, which this version of cuadre does not know" in newer.advice
    assert newer.may_go_on, "the next version's migration was applied; this one is about to be replaced"
    drifted = await schema_state(FakeConnection([AppliedMigration(1, "a", "another")]), three)
    assert drifted.state == "unknown"
    for history_of in (drifted, missing, older):
        assert not history_of.may_go_on
    gap = await schema_state(FakeConnection([*history(*three[:2]), AppliedMigration(4, "d", "x")]), three[:2])
    assert (gap.state, gap.may_go_on) == ("unknown", False)
    changed = await schema_state(FakeConnection([AppliedMigration(1, "a", "another"), *history(*three[1:])]), three[:2])
    assert (changed.state, changed.may_go_on) == ("unknown", False)
