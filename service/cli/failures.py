"""What went wrong, in the words of whoever typed the command.

    CommandError           one line that says what and what to do; exit code 1
    └── ConfigurationError several lines, one a problem; exit code 2

Everything that other rooms raise is told in the same manner by `explain`. No message holds a secret.
"""

import asyncpg

from service.database.errors import DatabaseRoomError
from service.database.pool import UNAVAILABLE
from service.mercadopago.errors import MercadoPagoError
from service.reloading import UnusableFileError
from service.settings import SettingsError
from service.telemetry.logging import redact_text

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_FOUND = 3
"""Drift or discrepancies were found."""


_DATABASE_TROUBLES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError),
        "refuses the login",
        "check user and password in CUADRE_DATABASE_URL",
    ),
    ((asyncpg.InvalidCatalogNameError,), "is not there", "create it, or correct its name in CUADRE_DATABASE_URL"),
    ((asyncpg.InsufficientPrivilegeError,), "refuses the rights", "grant them, or log in as the schema's owner"),
    ((asyncpg.QueryCanceledError,), "took too long", "try again when it is less busy"),
    ((asyncpg.ClientConfigurationError,), "cannot be used as configured", "correct CUADRE_DATABASE_URL"),
    (UNAVAILABLE, "cannot be reached", "check CUADRE_DATABASE_URL and that Postgres runs"),
    ((asyncpg.PostgresError,), "refuses a query", "run: cuadre doctor"),
)


class CommandError(Exception):
    """An expected failure: `str()` is one line that says what is wrong and what to do."""


class ConfigurationError(CommandError):
    """Settings or accounts are wrong; `problems` has one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def explain(error: BaseException) -> tuple[list[str], int]:
    """The lines for standard error and the exit code."""
    if isinstance(error, ConfigurationError | SettingsError | UnusableFileError):
        return error.problems, EXIT_USAGE
    if isinstance(error, CommandError | DatabaseRoomError):
        return [f"cuadre: {error}"], EXIT_ERROR
    if isinstance(error, MercadoPagoError):
        return [f"cuadre: {error}. {error.hint}"], EXIT_ERROR
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return [f"cuadre: {database_trouble(error)}"], EXIT_ERROR
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return [f"cuadre: {place}{error.strerror or type(error).__name__}"], EXIT_ERROR
    what = ": ".join(part for part in (type(error).__name__, one_line(error)) if part)
    return [f"cuadre: internal error, {what}; CUADRE_LOG_LEVEL=debug shows where, please report it"], EXIT_ERROR


def database_trouble(error: BaseException) -> str:
    """One line about a database that cannot be used. A ValueError's words may quote the DSN: left out."""
    for kinds, what, advice in _DATABASE_TROUBLES:
        if isinstance(error, kinds):
            return f"the database {what} ({_reason(error)}); {advice}"
    return f"the database cannot be used ({type(error).__name__}); check CUADRE_DATABASE_URL"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, asyncpg.PostgresError | asyncpg.ClientConfigurationError):
        return one_line(error)
    return type(error).__name__


def one_line(error: BaseException) -> str:
    """An error's own words on one line, with everything masked that looks like a secret."""
    return redact_text(" ".join(str(error).split()))[:300]
