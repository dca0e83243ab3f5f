"""What an account says about the desk, the legacy QR and its looks."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.accounts import AccountsError, load_accounts
from service.mercadopago.account import Account
from service.orders.look_table import DEFAULT_LOOKS
from service.settings import load_settings


def _load(tmp_path: Path, **fields: object) -> Account:
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps([{"name": "shop", **fields}]))
    return load_accounts(load_settings({"CUADRE_ACCOUNTS_FILE": str(path)}))[0]


def test_the_desk_is_told_what_it_needs(tmp_path: Path) -> None:
    account = _load(
        tmp_path,
        currency="CLP",
        refunds_only_here_since="2026-11-01T00:00:00-03:00",
        legacy_qr="v2",
        legacy_store_id="STORE1",
        looks={"closed": {"at_seconds": [30]}},
    )

    assert account.currency == "CLP"
    assert account.refunds_only_here_since == datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
    assert (account.legacy_qr, account.legacy_store_id) == ("v2", "STORE1")
    assert account.looks.closed.offsets == (timedelta(seconds=30),)
    assert account.looks.paid == DEFAULT_LOOKS.paid


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("currency", "ars", "must be an ISO 4217 code like ARS"),
        ("refunds_only_here_since", "2026-11-01", "must be an RFC 3339 time with an offset"),
        ("refunds_only_here_since", "yesterday", "must be an RFC 3339 time with an offset"),
        ("legacy_qr", "v3", "must be v1 or v2"),
        ("keep_payer", "yes", "must be true or false"),
        ("looks", {"paid": {"at_seconds": [5, 1]}}, "paid.at_seconds: must be ascending"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(tmp_path: Path, field: str, value: object, says: str) -> None:
    with pytest.raises(AccountsError) as refused:
        _load(tmp_path, **{field: value})

    assert refused.value.problems == [f"accounts[0].{field}: {says}"]


def test_payers_are_kept_only_where_a_setting_says_so(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps([{"name": "silent"}, {"name": "keeps", "keep_payer": True}]))
    environ = {"CUADRE_ACCOUNTS_FILE": str(path)}

    assert [one.keep_payer for one in load_accounts(load_settings(environ))] == [False, True]
    on = load_accounts(load_settings(environ | {"CUADRE_KEEP_PAYER": "on"}))
    assert [one.keep_payer for one in on] == [True, True]
