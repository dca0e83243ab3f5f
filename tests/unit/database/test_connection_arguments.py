"""What a session is told, when it must be writable, and what asyncpg's errors mean to callers."""

import asyncpg
import pytest
from asyncpg.exceptions import _base as client_exceptions

from service.database.pool import UNAVAILABLE, connect_arguments, is_item_fault, session_settings


def test_behind_a_transaction_pooler_no_settings_are_sent() -> None:
    settings = session_settings(application_name="cuadre", pin_plans=True)
    assert "server_settings" not in connect_arguments("postgresql://h/d", statement_cache_size=0, settings=settings)
    assert (
        connect_arguments("postgresql://h/d", statement_cache_size=1, settings=settings)["server_settings"] == settings
    )


def test_plans_are_pinned_only_where_asked() -> None:
    assert "enable_seqscan" not in session_settings(application_name="a", pin_plans=False)
    assert session_settings(application_name="a", pin_plans=True)["enable_seqscan"] == "off"


@pytest.mark.parametrize(
    ("dsn", "wanted"),
    [
        ("postgresql://u:p@one/d", None),
        ("postgresql://u:p@one:5432,two:5433/d", "read-write"),
        ("postgresql://u:p@/d?host=one,two", "read-write"),
        ("postgresql://u:p@/d?host=one&host=two", "read-write"),
        ("postgresql://u:p@/d?host=%2Frun%2Fpg&port=5432", None),
        ("postgresql://u:a,b@one/d", None),
        ("postgresql://one,two/d?target_session_attrs=any", None),
    ],
)
def test_of_several_hosts_the_writable_one(dsn: str, wanted: str | None) -> None:
    assert connect_arguments(dsn).get("target_session_attrs") == wanted


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.NumericValueOutOfRangeError("x"),
        asyncpg.CheckViolationError("x"),
        asyncpg.UniqueViolationError("x"),
        asyncpg.ProgramLimitExceededError("x"),
        asyncpg.UntranslatableCharacterError("x"),
        client_exceptions.DataError("asyncpg refuses to encode it"),
    ],
)
def test_one_items_values(error: BaseException) -> None:
    assert is_item_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.CannotConnectNowError("x"),
        asyncpg.AdminShutdownError("x"),
        asyncpg.CrashShutdownError("x"),
        asyncpg.TooManyConnectionsError("x"),
        asyncpg.ReadOnlySQLTransactionError("x"),
        asyncpg.QueryCanceledError("x"),
        asyncpg.ConnectionDoesNotExistError("x"),
        asyncpg.DiskFullError("x"),
        asyncpg.DeadlockDetectedError("x"),
        client_exceptions.TargetServerAttributeNotMatched("x"),
    ],
)
def test_the_database_is_not_there(error: BaseException) -> None:
    assert isinstance(error, UNAVAILABLE)
    assert not is_item_fault(error)


@pytest.mark.parametrize("error", [asyncpg.UndefinedColumnError("x"), asyncpg.PostgresSyntaxError("x"), ValueError()])
def test_mistakes_of_ours_are_neither(error: BaseException) -> None:
    assert not isinstance(error, UNAVAILABLE)
    assert not is_item_fault(error)
