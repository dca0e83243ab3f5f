"""`main`: exit codes, every problem told together, one line instead of a traceback, no secret anywhere."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import asyncpg
import pytest
import structlog

from service import __version__
from service.cli import commands, main
from service.cli.failures import CommandError, explain
from service.mercadopago.errors import OrderNotFound

DATABASE = "postgresql://cuadre:marked-password@db.example:5432/cuadre?password=marked-query"
SECRETS = ("marked-password", "marked-query", "marked-token", "marked-secret", "marked-key")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No setting from outside; logging as it was afterwards."""
    for name in list(os.environ):
        if name.upper().startswith("CUADRE_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield monkeypatch
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def no_secret(captured: pytest.CaptureFixture[str]) -> tuple[str, str]:
    out, err = captured.readouterr()
    for secret in SECRETS:
        assert secret not in out
        assert secret not in err
    return out, err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cuadre {__version__}\n"


def test_help_has_one_whole_line_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(commands.COMMANDS)
    assert not [line for line in lines if line.endswith("...")]


@pytest.mark.parametrize("name", list(commands.COMMANDS))
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: cuadre {name} ")


@pytest.mark.parametrize(
    "arguments",
    [[], ["doctro"], ["--nope"], ["doctor", "--format", "xml"], ["sync"], ["orders", "nope"],
     ["simulator", "--port", "x"],
     ["simulator", "--site", "XX"], ["simulator", "--time-compression", "0"], ["simulator", "--start-at", "noon"]],
)  # fmt: skip
def test_usage_errors_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: cuadre")


def test_a_typing_mistake_is_answered_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctro"]) == 2
    assert "Did you mean 'doctor'?" in capsys.readouterr().err


def test_every_problem_of_settings_accounts_and_keys_is_told_together(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts, keys = tmp_path / "accounts.json", tmp_path / "keys.json"
    accounts.write_text(
        '[{"name": "/", "access_token": "marked-token\\u0007"}, {"name": "b", "webhook_secrets": "marked-secret"}]'
    )
    keys.write_text('[{"name": "k", "sha256": "marked-key", "scopes": []}]')
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(accounts))
    environment.setenv("CUADRE_API_KEYS_FILE", str(keys))
    environment.setenv("CUADRE_DATABASE_URL", "mysql://marked-password")
    environment.setenv("CUADRE_PUBLIC_PORT", "70000")
    assert main(["config"]) == 2
    out, err = no_secret(capsys)
    assert out == ""
    starts = [line.partition(":")[0] for line in err.splitlines()]
    assert sorted(starts) == [
        "CUADRE_DATABASE_URL", "CUADRE_PUBLIC_PORT", "accounts[0].access_token", "accounts[0].name",
        "accounts[1].webhook_secrets", "keys[0].scopes", "keys[0].sha256",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["orders", "list"], ["migrate"], ["sync", "ORD01M2G0000000000"], ["discrepancies"]]
)
def test_wrong_settings_end_with_2_whatever_the_command(
    environment: pytest.MonkeyPatch, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("CUADRE_DATABASE_URL", "mysql://marked-password")
    environment.setenv("CUADRE_POLL_SECONDS", "soon")
    assert main(arguments) == 2
    _, err = no_secret(capsys)
    assert "CUADRE_DATABASE_URL: must be" in err
    assert "CUADRE_POLL_SECONDS: must be" in err


def test_the_configuration_is_shown_with_every_secret_masked(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("CUADRE_DATABASE_URL", DATABASE)
    environment.setenv("CUADRE_ACCESS_TOKEN", "APP_USR-marked-token")
    environment.setenv("CUADRE_WEBHOOK_SECRETS", "marked-secret-1,marked-secret-2")
    environment.setenv("CUADRE_WEBHOOK_SECRET", "marked-secret-3")
    environment.setenv("CUADRE_LOG_LEVEL", "debug")
    assert main(["config"]) == 0
    out, err = no_secret(capsys)
    assert "postgresql://cuadre:****@db.example:5432/cuadre" in out
    assert "2 set" in out
    assert "CUADRE_WEBHOOK_SECRET: no such setting" in err
    assert main(["config", "--format", "json"]) == 0
    document = json.loads(no_secret(capsys)[0])
    assert document.keys() == {"settings", "accounts", "warnings"}
    looks = document["accounts"][0].pop("looks")
    assert looks["a_day_per_1000_orders_a_day"] > 0
    assert document["accounts"] == [
        {
            "name": "default",
            "user_id": None,
            "application_ids": [],
            "access_token": "****",
            "webhook_secrets": ["****", "****"],
            "signature_policy": "report",
            "rate_per_second": 50.0,
        }
    ]
    values = {row["name"]: row["value"] for row in document["settings"]}
    assert values["CUADRE_PUBLIC_PORT"] == "8080"
    assert values["CUADRE_USER_ID"] is None


@pytest.mark.parametrize("dsn", ["postgresql://u:marked-password@h:99999/x", "postgresql://u:marked-password@[bad/x"])
@pytest.mark.parametrize("command", ["config", "serve", "migrate"])
def test_a_dsn_that_cannot_be_parsed_is_one_line_whatever_the_command(
    environment: pytest.MonkeyPatch, command: str, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("CUADRE_ACCESS_TOKEN", "marked-token")
    environment.setenv("CUADRE_DATABASE_URL", dsn)
    assert main([command]) == 2
    [line] = no_secret(capsys)[1].splitlines()
    assert line.startswith("CUADRE_DATABASE_URL: must be a URL postgresql://")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"CUADRE_ACCESS_TOKEN": "a b"}, ["CUADRE_ACCESS_TOKEN: must be"]),
        ({"CUADRE_USER_ID": "a b"}, ["CUADRE_USER_ID: must be"]),
        ({"CUADRE_ROLE": "boss"}, ["CUADRE_ROLE: must be", "no account: set CUADRE_ACCOUNTS_FILE"]),
        ({"CUADRE_ACCOUNTS_FILE": "/nonexistent"}, ["CUADRE_ACCOUNTS_FILE: /nonexistent: No such file"]),
        (
            {"CUADRE_ACCOUNTS_FILE": "/nonexistent", "CUADRE_ACCESS_TOKEN": "a b"},
            ["CUADRE_ACCESS_TOKEN: must be", "CUADRE_ACCOUNTS_FILE: /nonexistent: No such file"],
        ),
        (
            {"CUADRE_ACCESS_TOKEN": "a", "CUADRE_API_KEYS_FILE": "/nonexistent"},
            ["CUADRE_API_KEYS_FILE: /nonexistent: No such file"],
        ),
    ],
)
def test_a_wrong_setting_brings_no_second_line_about_what_it_stands_for(
    environment: pytest.MonkeyPatch, settings: dict[str, str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in settings.items():
        environment.setenv(name, value)
    assert main(["config"]) == 2
    lines = no_secret(capsys)[1].splitlines()
    assert len(lines) == len(told)
    assert all(line.startswith(start) for line, start in zip(lines, told, strict=True))


def test_a_wrong_dsn_is_not_said_to_be_missing_too(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("CUADRE_ACCESS_TOKEN", "marked-token")
    environment.setenv("CUADRE_DATABASE_URL", "mysql://marked-password")
    assert main(["serve"]) == 2
    [line] = no_secret(capsys)[1].splitlines()
    assert line.startswith("CUADRE_DATABASE_URL: must be")


def test_serve_without_settings_names_each_that_is_missing_on_a_line_of_its_own(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del environment
    assert main(["serve"]) == 2
    account, database = capsys.readouterr().err.splitlines()
    assert account.startswith("no account: set CUADRE_ACCOUNTS_FILE, or CUADRE_ACCESS_TOKEN")
    assert database.startswith("CUADRE_DATABASE_URL: not set")


def raising(error: BaseException) -> Callable[[str], NoReturn]:
    """Stands in for the loader of commands."""

    def load(name: str) -> NoReturn:
        del name
        raise error

    return load


@pytest.mark.parametrize("level", ["", "debug"])
def test_an_unexpected_error_is_one_line_unless_debugging(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: str
) -> None:
    environment.setenv("CUADRE_LOG_LEVEL", level)
    environment.setattr(commands.cuadre, "commands", {})
    environment.setattr(commands, "_load", raising(RuntimeError("Bearer marked-token\nsecond line")))
    assert main(["doctor"]) == 1
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert last == (
        "cuadre: internal error, RuntimeError: Bearer **** second line; "
        "CUADRE_LOG_LEVEL=debug shows where, please report it"
    )
    assert ("Traceback" in err) is (level == "debug")
    assert "marked-token" not in err


def test_ctrl_c_is_quiet(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setattr(commands.cuadre, "commands", {})
    environment.setattr(commands, "_load", raising(KeyboardInterrupt()))
    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "")


def test_failures_say_what_to_do() -> None:
    assert explain(CommandError("no; do this")) == (["cuadre: no; do this"], 1)
    lines, code = explain(OrderNotFound("404 order_not_found"))
    assert code == 1
    assert lines == [f"cuadre: 404 order_not_found. {OrderNotFound.hint}"]
    lines, code = explain(FileNotFoundError(2, "No such file or directory", "/nowhere"))
    assert (lines, code) == (["cuadre: /nowhere: No such file or directory"], 1)
    lines, code = explain(asyncpg.ClientConfigurationError("could not match 1 port numbers to 2 hosts"))
    assert code == 1
    [line] = lines
    assert (
        "cannot be used as configured (could not match 1 port numbers to 2 hosts); correct CUADRE_DATABASE_URL" in line
    )
