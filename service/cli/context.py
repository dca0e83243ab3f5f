"""What most commands begin with: the configuration, logging to standard error, a small pool on a current schema."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from service.accounts import NO_ACCOUNT, AccountBook, load_accounts
from service.cli.failures import CommandError, ConfigurationError, database_trouble
from service.database.migrations import schema_state
from service.database.pool import ITEM_FAULT, UNAVAILABLE, Database
from service.database.queries import load
from service.reloading import UnusableFileError
from service.settings import Settings, SettingsError, load_settings
from service.telemetry.logging import configure

QUERIES = load(Path(__file__).with_name("queries.sql"))

# With one of these wrong, that no account is set is no problem of its own.
_ACCOUNT_VARIABLES = frozenset(
    {"CUADRE_ACCOUNTS_FILE", "CUADRE_ACCESS_TOKEN", "CUADRE_USER_ID", "CUADRE_WEBHOOK_SECRETS"}
)

# Queries of a command, and a connection to spare.
POOL_SIZE = 4


def settings_for_command() -> Settings:
    """The settings, with logging set up for a command: to standard error, warnings and worse unless told otherwise.

    Raises `SettingsError`.
    """
    settings = load_settings()
    level = settings.log_level if "log_level" in settings.model_fields_set else "warning"
    configure("console", level, sys.stderr)
    return settings


def configuration(also: Callable[[Settings], object] | None = None) -> tuple[Settings, AccountBook]:
    """Settings and accounts. Raises `ConfigurationError` with every problem of both together.

    `also` reads what else the settings name, and its `UnusableFileError` counts among the problems.
    """
    problems: list[str] = []
    try:
        settings = settings_for_command()
    except SettingsError as error:
        problems = list(error.problems)
        settings = without_wrong_ones(os.environ, problems)
    told = _variables_of(problems)
    try:
        accounts = AccountBook(load_accounts(settings))
    except UnusableFileError as error:
        problems += [line for line in error.problems if line != NO_ACCOUNT or not told & _ACCOUNT_VARIABLES]
    if also is not None:
        try:
            also(settings)
        except (UnusableFileError, ConfigurationError) as error:
            # A variable that is wrong was left out above: that it is not set now says nothing.
            problems += [line for line in error.problems if not told & _variables_of([line])]
    if problems:
        raise ConfigurationError(problems)
    return settings, accounts


def without_wrong_ones(environ: Mapping[str, str], problems: list[str]) -> Settings:
    """What can be read in spite of the problems, so that the accounts' problems are told along with them."""
    wrong = _variables_of(problems)
    try:
        return load_settings({name: value for name, value in environ.items() if name.upper() not in wrong})
    except SettingsError:
        raise ConfigurationError(problems) from None


def _variables_of(problems: list[str]) -> set[str]:
    return {problem.partition(":")[0] for problem in problems}


def run(work: Callable[[], Awaitable[int]]) -> int:
    """Runs a command's asynchronous work to its exit code."""

    async def to_the_end() -> int:
        return await work()

    return asyncio.run(to_the_end())


@asynccontextmanager
async def open_database(settings: Settings, *, any_schema: bool = False) -> AsyncIterator[Database]:
    """A pool for one command. Raises `CommandError` where the database cannot be used or its schema is not current.

    `any_schema` leaves the schema unchecked.
    """
    database = await _connect(settings)
    try:
        if not any_schema:
            state = await schema_state(database)
            if state.state != "current":
                raise CommandError(state.advice)
        yield database
    except UNAVAILABLE as error:
        if isinstance(error, ITEM_FAULT):
            raise
        raise CommandError(database_trouble(error)) from error
    finally:
        await database.close()


def database_url(settings: Settings) -> str:
    """The DSN. Raises `ConfigurationError` where there is none."""
    if settings.database_url is None:
        raise ConfigurationError(["CUADRE_DATABASE_URL: not set; name the Postgres database, or try: cuadre demo"])
    return settings.database_url.get_secret_value()


async def _connect(settings: Settings) -> Database:
    dsn = database_url(settings)
    try:
        return await Database.connect(
            dsn,
            statement_cache_size=settings.database_statement_cache,
            max_size=POOL_SIZE,
            application_name="cuadre command",
        )
    except UNAVAILABLE as error:
        raise CommandError(database_trouble(error)) from error
    except ValueError as error:
        raise CommandError(database_trouble(error)) from error
