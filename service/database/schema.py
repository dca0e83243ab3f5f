"""The schema's migrations: the files of this build, and how a database compares with them.

A migration is `migrations/NNNN_name.sql`, numbered from 0001 without a gap, and never changed once released. It runs in
a transaction together with its line in `cuadre.schema_migrations`, so it has happened whole or not at all. A file whose
first line is `-- no-transaction` holds one statement that refuses a transaction (CREATE INDEX CONCURRENTLY) and that
may be repeated after an interruption.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import asyncpg

from service.database.errors import MigrationError
from service.database.pool import Querying

NO_TRANSACTION: Final = "-- no-transaction"

_FILE_NAME: Final = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_CONCURRENTLY: Final = re.compile(
    r"\b(create\s+(unique\s+)?|drop\s+)index\s+concurrently\s+(?!if\s+(not\s+)?exists\b)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `checksum` is the SHA-256 (hex) of its text with line ends as on Unix."""

    number: int
    name: str
    sql: str
    checksum: str

    @property
    def label(self) -> str:
        """As its file is called, without the suffix: `0001_orders`."""
        return f"{self.number:04d}_{self.name}"

    @property
    def in_transaction(self) -> bool:
        """False for the one statement that refuses a transaction."""
        return self.sql.split("\n", 1)[0].strip() != NO_TRANSACTION


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """One line of `cuadre.schema_migrations`."""

    number: int
    name: str
    checksum: str

    @property
    def label(self) -> str:
        """As the file was called."""
        return f"{self.number:04d}_{self.name}"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """How a database's schema compares with this build. `advice` is one line for the operator.

    `current`: serve. `missing`: no schema of ours. `older`: `pending` are still to be applied. `unknown`: made by
    another build (it has migrations that this one lacks, or that differ), so nothing may be assumed about it.
    `is_ahead`: unknown because a later version has added to what this build knows. Nobody may begin on that; a process
    that runs already goes on, because a migration leaves what the version before it uses.
    """

    state: Literal["current", "missing", "older", "unknown"]
    advice: str
    pending: tuple[str, ...] = ()
    is_ahead: bool = False

    @property
    def may_go_on(self) -> bool:
        """Whether a process that began on a current schema can serve on: while it is replaced by the next version."""
        return self.state == "current" or self.is_ahead


def load_migrations(directory: Path | None = None) -> tuple[Migration, ...]:
    """The migrations of this build, or those in `directory`, by number. Raises MigrationError for what is amiss."""
    folder = directory or _own_folder()
    migrations: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        named = _FILE_NAME.fullmatch(path.name)
        if named is None:
            raise MigrationError(f"{path.name} is no name for a migration; call it like 0002_what_it_does.sql")
        sql = "\n".join(path.read_text(encoding="utf-8").splitlines()) + "\n"
        migrations.append(Migration(int(named["number"]), named["name"], sql, hashlib.sha256(sql.encode()).hexdigest()))
    for expected, migration in enumerate(migrations, start=1):
        if migration.number != expected:
            raise MigrationError(
                f"migration {migration.label} stands where {expected:04d} should: numbers go up by one from 0001"
            )
        if not migration.in_transaction and _CONCURRENTLY.search(migration.sql):
            raise MigrationError(
                f"migration {migration.label} cannot be repeated after an interruption; "
                "say `concurrently if not exists` or `concurrently if exists`"
            )
    if not migrations:
        raise MigrationError(f"no migrations in {folder}; this installation is incomplete, install cuadre again")
    return tuple(migrations)


async def schema_state(connection: Querying, migrations: Sequence[Migration] | None = None) -> SchemaState:
    """Compare the database with this build's migrations. Changes nothing. Raises what asyncpg raises."""
    known = load_migrations() if migrations is None else migrations
    applied = await read_history(connection)
    if not applied:
        return SchemaState(
            "missing", "the database has no cuadre schema; run: cuadre migrate", tuple(m.label for m in known)
        )
    try:
        pending = compare(known, applied)
    except MigrationError as error:
        return SchemaState("unknown", str(error), is_ahead=_is_ahead(known, applied))
    if pending:
        labels = tuple(migration.label for migration in pending)
        return SchemaState("older", f"the schema lacks {', '.join(labels)}; run: cuadre migrate", labels)
    return SchemaState("current", "the schema is up to date")


def compare(known: Sequence[Migration], applied: Sequence[AppliedMigration]) -> Sequence[Migration]:
    """What is still to be applied. Raises MigrationError where the history is not a beginning of `known`."""
    for expected, line in enumerate(applied, start=1):
        if line.number != expected:
            raise MigrationError(
                f"the database's history has {line.label} where {expected:04d} should be; "
                "restore cuadre.schema_migrations from a backup"
            )
        if expected > len(known):
            raise MigrationError(
                f"the database has migration {line.label}, which this version of cuadre does not know; "
                "run the newer version that made it"
            )
        if line.checksum != known[expected - 1].checksum:
            raise MigrationError(
                f"migration {line.label} was changed after it had been applied; "
                "run the version of cuadre that made this schema, or restore the file"
            )
    return known[len(applied) :]


def _is_ahead(known: Sequence[Migration], applied: Sequence[AppliedMigration]) -> bool:
    """Whether all of `known` was applied as it is here, and then more, without a gap."""
    return [line.number for line in applied] == list(range(1, len(applied) + 1)) and (
        [line.checksum for line in applied[: len(known)]] == [migration.checksum for migration in known]
    )


async def read_history(connection: Querying) -> list[AppliedMigration]:
    """The migrations that the database has had, by number; none where there is no schema."""
    try:
        rows = await connection.fetch("select number, name, checksum from cuadre.schema_migrations order by number")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return []
    return [AppliedMigration(row["number"], row["name"], row["checksum"]) for row in rows]


def _own_folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    # In a wheel they are inside the package. Beside it, in site-packages, `migrations` could be anybody's.
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"
