"""What a command of the desk came to, in the words of the command line; and what it is given to work with."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer

from service.accounts import AccountBook
from service.cli.desk_now import account_to_use, command_line_user, key_to_use, read_order_file, said
from service.cli.desk_told import tell
from service.cli.failures import CommandError, ConfigurationError
from service.desk.errors import AlreadySent, Fault, InvalidRequest
from service.desk.intents import CommandRow
from service.mercadopago.account import Account

NOW = datetime(2026, 9, 14, 12, 0, tzinfo=UTC)
COMMAND_ID = "CMD" + "0" * 26


def row(**changes: Any) -> CommandRow:
    """A creation that is done."""
    fields: dict[str, Any] = dict.fromkeys(CommandRow.__slots__) | {
        "command_id": COMMAND_ID, "account": "default", "idempotency_key": "k", "asked_by": "me", "asked_at": NOW,
        "kind": "create", "type": "qr", "order_id": "ORD1", "amount": Decimal("12.50"), "currency": "ARS",
        "reserved": {}, "options": {}, "provider_key": "p", "status": "done", "attempts": 1, "refund_ids": (),
        "answer": {"id": "ORD1", "total_amount": "12.50", "type_response": {"qr_data": "000201"}},
    }  # fmt: skip
    return CommandRow(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, 0, None),
        (
            {"status": "refused", "provider_code": "pos_not_found", "message": "No such point of sale."},
            1,
            "refused (pos_not_found): No such point of sale.",
        ),
        ({"status": "withdrawn", "message": "Never sent."}, 1, "withdrawn: Never sent."),
        ({"status": "waiting", "last_error": "connection"}, 1, f"not sent yet (connection).*withdraw {COMMAND_ID}"),
        ({"status": "waiting", "maybe_sent_at": NOW}, 1, f"not known yet.*commands show {COMMAND_ID}"),
        ({"status": "sending", "maybe_sent_at": NOW}, 1, "not known yet"),
        ({"status": "unknown", "maybe_sent_at": NOW}, 1, "never do it again under another key"),
        ({"status": "accepted", "maybe_sent_at": NOW}, 1, "no look has shown it yet"),
    ],
)
def test_the_exit_code_and_one_line_that_says_what_to_do(
    changes: dict[str, Any], code: int, words: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(row(**changes), "table") == code
    out, err = capsys.readouterr()
    assert COMMAND_ID in out
    if words is None:
        assert err == ""
    else:
        (line,) = err.splitlines()
        assert re.search(words.replace("(", r"\(").replace(")", r"\)"), line), line


def test_the_qr_is_shown_where_there_is_one_and_nothing_empty_is(capsys: pytest.CaptureFixture[str]) -> None:
    tell(row(), "table")
    out = capsys.readouterr().out
    assert re.search(r"^qr_data +000201$", out, re.MULTILINE)
    assert "refunds" not in out
    tell(row(answer=None), "table")
    assert "qr_data" not in capsys.readouterr().out


def test_as_json_the_command_and_the_order_keep_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    tell(row(answer={"id": "ORD1", "rate": Decimal("0.10")}, reserved={"PAY1": Decimal("1.50")}), "json")
    text = capsys.readouterr().out
    assert '"rate":0.10' in text
    document = json.loads(text)
    assert document["command"]["amount"] == "12.50"
    assert document["command"]["reserved"] == {"PAY1": "1.50"}
    tell(row(answer={"settled_by": "me"}), "json")
    assert "order" not in json.loads(capsys.readouterr().out)


def test_a_fresh_key_is_told_and_a_given_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert key_to_use("mine") == "mine"
    assert capsys.readouterr().err == ""
    fresh = key_to_use(None)
    assert f"--key {fresh}" in capsys.readouterr().err
    assert key_to_use(None) != fresh


def test_whose_it_is() -> None:
    default, second = Account("default"), Account("second")
    assert account_to_use(AccountBook([second, default]), None) is default
    assert account_to_use(AccountBook([second]), None) is second
    assert account_to_use(AccountBook([default, second]), "second") is second
    for accounts, name in (([second, Account("third")], None), ([default], "second"), ([], None)):
        with pytest.raises(typer.BadParameter):
            account_to_use(AccountBook(accounts), name)


def test_an_order_file_is_exact_and_small(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"unit_price": 0.10}')
    assert str(read_order_file(str(path))["unit_price"]) == "0.10"
    path.write_text('{"a": "' + "x" * 70_000 + '"}')
    for name in (str(path), str(tmp_path), str(tmp_path / "none.json")):
        with pytest.raises(ConfigurationError) as caught:
            read_order_file(name)
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].startswith(name)


def test_what_the_desk_refuses_is_said_fault_by_fault() -> None:
    faults = said(InvalidRequest([Fault("order.type", "must be qr"), Fault("order.total_amount", "is required")]))
    assert isinstance(faults, ConfigurationError)
    assert faults.problems == ["order.type: must be qr", "order.total_amount: is required"]
    assert type(said(AlreadySent())) is CommandError


def test_who_asks_is_named_even_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert re.fullmatch(r"command line \([0-9]+\)", command_line_user())
