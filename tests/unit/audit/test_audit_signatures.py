"""The signature doctor: what was signed is found in every known variant, and each outcome says what follows."""

import hashlib
import hmac
from typing import Any

import pytest

from service.audit.signature_advice import advice
from service.audit.signatures import Explanation, Match, Stored, explain, read_header
from service.mercadopago.account import Account

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
TS = "1783535260"
SECRETS = ("marked-first-secret", "marked-second-secret")
SHOP = Account("shop", application_ids=("111",), webhook_secrets=SECRETS)
OTHER = Account("shop-b", webhook_secrets=("marked-other-secret",))
ACCOUNTS = (OTHER, SHOP)


def signed(manifest: str, secret: str = SECRETS[0], *, ts: str = TS) -> str:
    return f"ts={ts},v1={hmac.new(secret.encode(), manifest.encode(), hashlib.sha256).hexdigest()}"


def stored(signature: str | None, **fields: Any) -> Stored:
    headers = {"X-Request-Id": "r-1"} | ({} if signature is None else {"X-Signature": signature})
    facts: dict[str, Any] = {
        "account": "shop", "topic": "order", "resource_id": ORDER, "simulation": False, "verification": "mismatch",
        "query": {"data.id": ORDER, "type": "order"}, "headers": headers,
        "body": {"application_id": "111", "data": {"id": ORDER}}, "received_at": float(TS) + 3,
    }  # fmt: skip
    return Stored(**facts | fields)


def told(one: Stored, accounts: tuple[Account, ...] = ACCOUNTS) -> tuple[Explanation, str]:
    """The explanation and its sentences; no secret and no whole digest is in either."""
    explanation = explain(one, accounts)
    sentences = advice(one, explanation, accounts)
    assert sentences, "every outcome says what follows"
    shown = f"{explanation!r} {sentences}"
    for secret in (*SECRETS, *OTHER.webhook_secrets):
        assert secret not in shown
    assert explanation.header.digest is None or explanation.header.digest not in " ".join(sentences)
    return explanation, " | ".join(sentences)


LOWER = ORDER.lower()
VARIANTS = {
    "as real deliveries": (f"id:{LOWER};request-id:r-1;ts:{TS};", "query data.id", "lower", "as_given", True),
    "verbatim": (f"id:{ORDER};request-id:r-1;ts:{TS};", "query data.id", "verbatim", "as_given", True),
    "no request id": (f"id:{LOWER};ts:{TS};", "query data.id", "lower", "as_given", False),
    "verbatim, no request id": (f"id:{ORDER};ts:{TS};", "query data.id", "verbatim", "as_given", False),
    "no id": (f"request-id:r-1;ts:{TS};", "no id", "none", "as_given", True),
    "ts in ms": (f"id:{LOWER};request-id:r-1;ts:{TS}000;", "query data.id", "lower", "milliseconds", True),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("secret", SECRETS)
def test_what_was_signed_is_found(name: str, secret: str) -> None:
    manifest, *expected = VARIANTS[name]
    explanation, _ = told(stored(signed(manifest, secret)))
    id_from, casing, ts, with_request_id = expected
    assert explanation.matches == (
        Match("shop", SECRETS.index(secret), False, id_from, casing, ts, with_request_id),  # type: ignore[arg-type]  # literals of the table above
    )


def test_milliseconds_that_were_signed_as_seconds_are_found() -> None:
    signature = signed(f"id:{LOWER};request-id:r-1;ts:{TS};", ts=f"{TS}638")
    explanation, sentences = told(stored(signature))
    assert [match.ts for match in explanation.matches] == ["seconds"]
    assert (explanation.header.unit, explanation.verdict) == ("milliseconds", "variant")
    assert explanation.age_seconds == pytest.approx(2.362)
    assert "rewrites the header" in sentences


@pytest.mark.parametrize(
    ("data_id", "query", "expected"),
    [
        ("another-id", {"data.id": ORDER}, "body data.id"),
        ("body-top-id", {"data.id": ORDER}, "body id"),
        ("a b", {"data.id": "a%20b"}, "query data.id, decoded"),
        ("a%2Fb", {"data.id": "a/b"}, "query data.id, encoded"),
        ("7", {"id": "7"}, "query id"),
        ("ref-1", {"data.id": ORDER, "data.external_reference": "ref-1"}, "external_reference"),
    ],
)
def test_an_id_from_elsewhere_is_found(data_id: str, query: dict[str, str], expected: str) -> None:
    body = {"id": "body-top-id", "data": {"id": "another-id"}}
    spelled = data_id if "%" in data_id else data_id.lower()
    explanation, sentences = told(stored(signed(f"id:{spelled};request-id:r-1;ts:{TS};"), query=query, body=body))
    assert [match.id_from for match in explanation.matches] == [expected]
    assert explanation.verdict == "variant"
    assert expected in sentences


def test_upper_case_that_was_lowered_on_its_way_is_found() -> None:
    explanation, sentences = told(stored(signed(f"id:{ORDER};request-id:r-1;ts:{TS};"), query={"data.id": LOWER}))
    assert [match.casing for match in explanation.matches] == ["upper"]
    assert explanation.verdict == "variant"
    assert "upper case" in sentences


def test_another_accounts_secret_is_named_by_account_and_number() -> None:
    explanation, sentences = told(stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};", OTHER.webhook_secrets[0])))
    assert explanation.verdict == "other_account"
    assert [(match.account, match.secret_index) for match in explanation.matches] == [("shop-b", 0)]
    assert "signed with secret number 1 of account shop-b" in sentences


def test_a_secret_shared_by_two_accounts_is_the_own_one() -> None:
    twin = Account("twin", webhook_secrets=(SECRETS[1],))
    explanation, _ = told(stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};", SECRETS[1])), (twin, SHOP))
    assert explanation.verdict == "valid"
    assert [match.account for match in explanation.matches] == ["shop", "twin"]


def test_blanks_around_a_secret_are_found() -> None:
    shop = Account("shop", webhook_secrets=(f" {SECRETS[0]}\n",))
    explanation, sentences = told(stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};")), (shop,))
    assert explanation.verdict == "variant"
    assert explanation.matches[0].blanks_removed
    assert "without the blanks" in sentences


def test_a_secret_that_was_added_later_is_said() -> None:
    _, sentences = told(stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};")))
    assert "would take it now" in sentences
    _, valid = told(stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};"), verification="valid"))
    assert "would take it now" not in valid


UNKNOWN = signed("id:x;ts:1;", "somebody-elses")


@pytest.mark.parametrize(
    ("one", "verdict", "words"),
    [
        (stored(None), "unsigned", "unsigned"),
        (stored("  "), "unsigned", "unsigned"),
        (stored("v1=" + "a" * 64), "malformed", "no ts"),
        (stored(f"ts=now,v1={'a' * 64}"), "malformed", "no whole number"),
        (stored(f"ts={TS}"), "malformed", "no v1"),
        (stored(f"ts={TS},v1=abc"), "malformed", "of 3 characters"),
        (stored(UNKNOWN + ",x=" + "y" * 5000), "malformed", "too long"),
        (stored(UNKNOWN), "nothing_matched", "compare webhook_secrets"),
        (stored(UNKNOWN, body={"application_id": "999"}), "nothing_matched", "application 999"),
        (stored(UNKNOWN, body={"live_mode": False}), "nothing_matched", "test user's panel"),
        (stored(UNKNOWN, query={"topic": "payment", "id": "7"}), "legacy", "cannot be checked"),
        (stored(UNKNOWN, account="gone"), "no_secret", "no webhook secret"),
    ],
)
def test_what_matches_nothing_says_why_and_what_to_do(one: Stored, verdict: str, words: str) -> None:
    explanation, sentences = told(one)
    assert (explanation.verdict, explanation.matches) == (verdict, ())
    assert words in sentences


def test_a_time_far_off_is_said() -> None:
    fresh = stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};"))
    late = stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};"), received_at=float(TS) + 9 * 86400)
    assert "days from its receipt" not in told(fresh)[1]
    assert "9 days from its receipt" in told(late)[1]


def test_empty_secrets_match_nothing() -> None:
    empty = Account("shop", webhook_secrets=("", " "))
    explanation, _ = told(stored(signed(f"id:{LOWER};request-id:r-1;ts:{TS};", "")), (empty,))
    assert (explanation.verdict, explanation.secrets, explanation.tried) == ("no_secret", 0, 0)


@pytest.mark.parametrize("body", [None, [], "text", {"data": "x"}, {"data": {"id": True}}, {"id": {"a": 1}}])
@pytest.mark.parametrize("headers", [{}, {"X-SIGNATURE": [UNKNOWN, "x"]}, {"x-signature": []}, {"x-signature": 5}])
def test_odd_deliveries_are_explained_as_well(body: Any, headers: dict[str, Any]) -> None:
    told(stored(None, body=body, headers=headers, query={"data.id": ["a", "b"], "x": 1}, resource_id=None))


def test_of_a_repeated_header_part_the_last_counts_as_for_the_provider() -> None:
    assert read_header(f"ts=1,TS={TS}, v1={'a' * 64}").ts == TS
