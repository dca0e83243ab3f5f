"""What the doctor makes of facts: the judgements that need neither database nor provider."""

from datetime import UTC, datetime, timedelta

import pytest

from service.cli import checks
from service.mercadopago.account import Account
from service.mercadopago.client import Seller

NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("database", "provider", "status", "words"),
    [
        (0.0, 0.4, "ok", "this machine, the database and Mercado Pago agree within 0.4 s"),
        (1.0, -0.9, "ok", "agree within 1.9 s"),
        (0.2, None, "ok", "this machine and the database agree within 0.2 s; Mercado Pago gave no time"),
        (None, None, "warn", "no other clock"),
        (90.0, 0.3, "fail", "the database is 89.8 s ahead of this machine and Mercado Pago"),
        (-60.0, -60.5, "fail", "this machine is 60.2 s ahead of the database and Mercado Pago"),
        (5.0, 5.5, "warn", "this machine is 5.2 s behind the database and Mercado Pago"),
        (0.1, 3600.0, "fail", "Mercado Pago is 3599.9 s ahead of this machine and the database"),
        (10.0, 20.0, "warn", "this machine, the database and Mercado Pago differ by 20.0 s"),
        (None, 31.0, "fail", "this machine and Mercado Pago differ by 31.0 s; the database gave no time"),
    ],
)
def test_clocks(database: float | None, provider: float | None, status: str, words: str) -> None:
    check = checks.clocks(database, provider)
    assert check.status == status
    assert words in check.found
    assert status == "ok" or check.advice


@pytest.mark.parametrize(
    ("number", "writable", "status"),
    [
        (130_021, True, "fail"),
        (140_000, True, "ok"),
        (180_004, True, "ok"),
        (190_000, True, "warn"),
        (170_000, False, "fail"),
    ],
)
def test_servers(number: int, writable: bool, status: str) -> None:
    [check] = checks.server({"version": "x", "version_number": number, "writable": writable})
    assert check.status == status


@pytest.mark.parametrize(("seconds", "words"), [(0.0, "for ever"), (60.0, "for 60 s"), (5.0, "for 5 s"), (3.0, None)])
@pytest.mark.parametrize("ack_timeout_seconds", [1.0, 4.0])
def test_sessions_end_within_the_time_of_an_answer(
    seconds: float, words: str | None, ack_timeout_seconds: float
) -> None:
    found = checks.sessions(seconds, ack_timeout_seconds)
    assert [check.status for check in found] == (["warn"] if words else [])
    assert all(words is not None and words in check.found for check in found)
    assert all("orders and commands, and their notifications" in check.found for check in found)


def seller(user_id: str = "7") -> Seller:
    return Seller(user_id=user_id, site_id="MLA", nickname="N", is_test=True, provider_date=None)


def test_tokens() -> None:
    right = checks.token(Account("a", user_id="7"), seller(), alone=True)
    assert (right.status, right.found, right.account) == ("ok", "user 7 of MLA, a test user", "a")
    assert checks.token(Account("a", user_id="8"), seller(), alone=True).status == "fail"
    assert checks.token(Account("a"), seller(), alone=True).status == "ok"
    assert checks.token(Account("a"), seller(), alone=False).status == "warn"


def checked(deliveries: int, verification: str, manifest: str = "") -> dict[str, object]:
    return {
        "account": "a",
        "application_id": "1",
        "verification": verification,
        "manifest": manifest,
        "deliveries": deliveries,
    }


def test_one_failed_signature_in_many_is_shown_and_no_reason_to_worry() -> None:
    account = Account("a", webhook_secrets=("s",))
    [check] = checks.signatures([checked(9999, "valid", "lower"), checked(1, "mismatch")], {"a": account})
    assert check.status == "ok"
    assert "99.9% valid" in check.found


def test_signatures_without_a_secret_say_so() -> None:
    [check] = checks.signatures([checked(5, "mismatch")], {"a": Account("a", webhook_secrets=("",))})
    assert check.status == "warn"
    assert check.advice is not None
    assert check.advice.startswith("set webhook_secrets")


def test_signatures_that_are_not_looked_at_are_no_failure() -> None:
    [check] = checks.signatures([checked(5, "not_checked")], {"a": Account("a", signature_policy="off")})
    assert check.status == "ok"


def test_signatures_of_an_account_nobody_configured() -> None:
    configured, unknown = checks.signatures([checked(5, "valid")], {"b": Account("b")})[::-1]
    assert (configured.account, configured.status) == ("b", "ok")
    assert (unknown.account, unknown.status) == ("a", "warn")


@pytest.mark.parametrize(
    ("hours", "changed", "status"),
    [
        (0.5, 50, "ok"),
        (5, 0, "ok"),
        (5, 50, "warn"),
        (30, 9, "warn"),
        (30, 10, "fail"),
        (None, 0, "ok"),
        (None, 10, "fail"),
    ],
)
def test_silence(hours: float | None, changed: int, status: str) -> None:
    last_at = None if hours is None else NOW - timedelta(hours=hours)
    [check] = checks.silence([{"account": "a", "last_at": last_at, "changed_since": changed}], NOW)
    assert check.status == status
    assert status == "ok" or check.advice


def test_open_discrepancies_are_named_by_rule_most_first() -> None:
    check = checks.discrepancies([{"rule": "refund_stuck", "open": 1}, {"rule": "duplicate_sale", "open": 4}])
    assert (check.status, check.found) == ("warn", "5 open: 4 duplicate_sale, 1 refund_stuck")
    assert checks.discrepancies([]).status == "ok"
