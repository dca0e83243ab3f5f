"""What each status and each error envelope means, and that nothing secret or unprintable gets into a message."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.answers import error_for, http_date, provider_complaint, retry_after_seconds
from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    ConnectionTrouble,
    MercadoPagoError,
    NonsenseAnswer,
    OrderFault,
    OrderNotFound,
    ProviderTrouble,
    RateLimited,
    ServerTrouble,
    Timeout,
    UnreadableOrder,
)

ERRORS = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "errors"
TOKEN = "APP_USR-1234567890123456-091415-0123456789abcdef0123456789abcdef-2100457788"


def error(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, about_order: bool = True
) -> MercadoPagoError:
    return error_for(status, headers or {}, body, token=TOKEN, about_order=about_order)


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (201, NonsenseAnswer, "nonsense"),
        (204, NonsenseAnswer, "nonsense"),
        (206, NonsenseAnswer, "nonsense"),
        (301, NonsenseAnswer, "redirect"),
        (302, NonsenseAnswer, "redirect"),
        (304, NonsenseAnswer, "redirect"),
        (400, BadRequest, "bad_request"),
        (401, AccountRefused, "unauthorized"),
        (402, BadRequest, "bad_request"),
        (403, AccountRefused, "forbidden"),
        (404, OrderNotFound, "not_found"),
        (405, BadRequest, "bad_request"),
        (408, Timeout, "timeout"),
        (409, BadRequest, "bad_request"),
        (410, BadRequest, "bad_request"),
        (422, BadRequest, "bad_request"),
        (423, ServerTrouble, "locked"),
        (425, ServerTrouble, "too_early"),
        (429, RateLimited, "rate_limited"),
        (500, ServerTrouble, "server_error"),
        (502, ServerTrouble, "server_error"),
        (503, ServerTrouble, "server_error"),
        (504, ServerTrouble, "server_error"),
        (599, ServerTrouble, "server_error"),
    ],
)
def test_every_status_has_its_place_in_the_tree(status: int, kind: type[MercadoPagoError], outcome: str) -> None:
    got = error(status)
    assert type(got) is kind
    assert (got.outcome, got.status) == (outcome, status)
    assert str(got).startswith(str(status))
    assert got.hint


@pytest.mark.parametrize("status", range(200, 600))
def test_no_status_is_an_orders_fault_where_no_order_was_asked_for(status: int) -> None:
    assert not isinstance(error(status, about_order=False), OrderFault)


TROUBLES = (ConnectionTrouble, Timeout, ServerTrouble, RateLimited, NonsenseAnswer)
FAULTS = (OrderNotFound, BadRequest, UnreadableOrder)


def test_the_tree() -> None:
    assert all(issubclass(kind, ProviderTrouble) for kind in TROUBLES)
    assert all(issubclass(kind, OrderFault) for kind in FAULTS)
    outcomes = [kind.default_outcome for kind in (*TROUBLES, AccountRefused, *FAULTS)]
    assert len(set(outcomes)) == len(outcomes)


@pytest.mark.parametrize("path", sorted(ERRORS.glob("*.json")), ids=lambda path: path.name)
def test_every_example_envelope_gives_its_code_and_message(path: Path) -> None:
    body = json.loads(path.read_text())
    stated = body["errors"][0] if "errors" in body else body
    status = int(path.name[:3])
    assert str(error(status, path.read_bytes())) == f"{status} {stated['code']}: {stated['message']}"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            (
                b'{"message":"At least one policy returned UNAUTHORIZED.",'
                b'"code":"PA_UNAUTHORIZED_RESULT_FROM_POLICIES","blocked_by":"PolicyAgent","status":403}'
            ),
            "PA_UNAUTHORIZED_RESULT_FROM_POLICIES: At least one policy returned UNAUTHORIZED.",
        ),
        (b'{"message":"At least one policy returned UNAUTHORIZED."}', "At least one policy returned UNAUTHORIZED."),
        (
            b'{"message":"m","error":"bad_request","status":400,"cause":[{"code":2067,"description":"Invalid user"}]}',
            "2067: Invalid user",
        ),
        (b'{"message":"m","error":"not_found","status":404,"cause":[]}', "not_found: m"),
        (b'{"errors":{"code":"a","message":"b"}}', "a: b"),
        (b'{"errors":[]}', ""),
        (b'{"errors":["x"]}', ""),
        (b'{"code":{"a":1},"message":["x"]}', ""),
        (b"<html><body>502 Bad Gateway</body></html>", ""),
        (b"", ""),
        (b"[]", ""),
        (b"null", ""),
        (b"\xff\x00", ""),
    ],
)
def test_the_other_families_of_envelopes(body: bytes, complaint: str) -> None:
    assert provider_complaint(body, TOKEN) == complaint


def test_html_and_empty_bodies_leave_the_status() -> None:
    assert str(error(502, b"<html>oops</html>")) == "502 without a readable reason"
    assert str(error(404)) == "404 without a readable reason"


@pytest.mark.parametrize(
    "message",
    [f"invalid token {TOKEN}", "invalid token Bearer abc.def", "TEST-1234567890-abcdef is no live token", f"x{TOKEN}y"],
)
def test_a_token_that_the_provider_quotes_is_masked(message: str) -> None:
    text = str(error(401, json.dumps({"code": TOKEN, "message": message}).encode()))
    assert TOKEN not in text
    assert "***" in text
    assert "abc.def" not in text
    assert "1234567890" not in text


def test_messages_are_one_bounded_printable_line() -> None:
    text = str(
        error(400, json.dumps({"code": "c\r\n\x1b[31m\u202e", "message": "\x00\ud800 " + "x" * 10_000}).encode())
    )
    assert text.isprintable()
    assert len(text) <= 250
    text.encode()


@given(
    st.integers(200, 599), st.binary(max_size=100), st.dictionaries(st.sampled_from(["Retry-After", "Date"]), st.text())
)
def test_anything_is_some_error(status: int, body: bytes, headers: dict[str, str]) -> None:
    got = error(status, body, headers)
    assert str(got).isprintable()
    assert got.retry_after_seconds is None or 0 <= got.retry_after_seconds <= 900


NOW = datetime(2026, 9, 14, 14, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("900", 900),
        ("901", 900),
        ("999999999", 900),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("１", None),
        ("1e3", None),
        ("inf", None),
        ("9" * 400, None),
        ("Mon, 14 Sep 2026 14:00:30 GMT", 30),
        ("Mon, 14 Sep 2026 14:00:00 GMT", 0),
        ("Mon, 14 Sep 2026 15:00:00 GMT", 900),
        ("Mon, 14 Sep 2026 13:59:59 GMT", None),
        ("Monday, 14-Sep-26 14:00:30 GMT", 30),
        ("Mon, 99 Sep 2026 14:00:30 GMT", None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert retry_after_seconds(value, NOW) == expected


def test_retry_after_is_measured_by_the_answers_own_clock() -> None:
    headers = {"Retry-After": "Mon, 14 Sep 2026 14:00:30 GMT", "Date": "Mon, 14 Sep 2026 14:00:00 GMT"}
    assert error(429, headers=headers).retry_after_seconds == 30
    soon = (datetime.now(UTC) + timedelta(seconds=600)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    measured = retry_after_seconds(soon, None)
    assert measured is not None
    assert 0 < measured <= 600


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Mon, 14 Sep 2026 14:00:00 GMT", NOW),
        ("Mon, 14 Sep 2026 10:00:00 -0400", NOW),
        ("Mon, 14 Sep 2026 14:00:00", NOW),
        ("nonsense", None),
        ("", None),
        (None, None),
        ("Mon, 14 Sep 99999 14:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", None),
        ("x" * 100_000, None),
    ],
)
def test_http_dates(value: str | None, expected: datetime | None) -> None:
    assert http_date(value) == expected


@given(st.text(max_size=70))
def test_any_text_is_a_date_or_none(text: str) -> None:
    moment = http_date(text)
    assert moment is None or moment.tzinfo is UTC
