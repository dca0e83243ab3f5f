"""`cuadre migrate`, and what every other command says about a database that cannot be used."""

import pytest

from service.database.pool import Database
from tests.integration.cli.cli_support import Cuadre


async def test_an_empty_database_is_brought_up_to_date(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, empty_dsn: str
) -> None:
    environment.setenv("CUADRE_DATABASE_URL", empty_dsn)
    before = await cuadre("migrate", "--status")
    assert before.code == 1
    assert "missing" in before.out
    applied = await cuadre("migrate")
    assert applied.code == 0
    assert "applying 0001_" in applied.out
    assert "the schema is up to date" in applied.out
    again = await cuadre("migrate")
    assert (again.code, again.out) == (0, "nothing to apply; the schema is up to date\n")
    status = await cuadre("migrate", "--status", "--format", "json")
    assert status.code == 0
    assert status.json() == {"state": "current", "pending": [], "advice": "the schema is up to date"}


async def test_migrating_as_json_is_one_document(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, empty_dsn: str
) -> None:
    environment.setenv("CUADRE_DATABASE_URL", empty_dsn)
    result = await cuadre("migrate", "--format", "json")
    assert result.code == 0
    assert result.json()["applied"][0].startswith("0001_")
    assert "applying 0001_" in result.err


@pytest.mark.parametrize(
    "arguments",
    [["orders", "list"], ["notifications", "list"], ["discrepancies"], ["quarantine"], ["sync", "ORD01M2G0000000000"]],
)
async def test_commands_advise_to_migrate_a_database_without_schema(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, empty_dsn: str, arguments: list[str]
) -> None:
    environment.setenv("CUADRE_DATABASE_URL", empty_dsn)
    result = await cuadre(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err == "cuadre: the database has no cuadre schema; run: cuadre migrate\n"


async def test_a_schema_of_a_newer_version_is_refused(cuadre: Cuadre, database: Database) -> None:
    await database.execute(
        "insert into cuadre.schema_migrations (number, name, checksum, duration) "
        "select max(number) + 1, 'newer', 'x', '1 s' from cuadre.schema_migrations"
    )
    result = await cuadre("orders", "list")
    assert result.code == 1
    assert "newer" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["migrate"], ["migrate", "--status"], ["orders", "list"], ["discrepancies"]])
async def test_a_database_that_is_down_is_one_line(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    environment.setenv("CUADRE_DATABASE_URL", "postgresql://cuadre:marked-password@127.0.0.1:1/cuadre")
    cuadre.secrets = [*cuadre.secrets, "marked-password"]
    result = await cuadre(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("cuadre: the database cannot be reached (")
    assert result.err.endswith("check CUADRE_DATABASE_URL and that Postgres runs\n")
    assert result.err.count("\n") == 1


async def test_a_refused_login_and_a_missing_database_are_told_apart(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, database_dsn: str
) -> None:
    environment.setenv("CUADRE_DATABASE_URL", database_dsn.replace("/test_", "/no_such_test_"))
    missing = await cuadre("orders", "list")
    assert missing.code == 1
    assert "the database is not there" in missing.err
    scheme, _, rest = database_dsn.partition("://")
    credentials, _, location = rest.rpartition("@")
    environment.setenv("CUADRE_DATABASE_URL", f"{scheme}://{credentials.partition(':')[0]}:marked-wrong@{location}")
    cuadre.secrets = [*cuadre.secrets, "marked-wrong"]
    refused = await cuadre("orders", "list")
    assert refused.code == 1
    assert "refuses the login" in refused.err


async def test_no_database_url_is_a_mistake_in_the_settings(cuadre: Cuadre, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("CUADRE_DATABASE_URL")
    result = await cuadre("orders", "list")
    assert result.code == 2
    assert result.err.startswith("CUADRE_DATABASE_URL: not set")
