"""Answers to writes as they are handed on: the code and words of every envelope, nothing secret, nothing endless."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.answers import ProviderAnswer, provider_answer
from service.mercadopago.errors import NonsenseAnswer

ERRORS = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "errors"
TOKEN = "APP_USR-1234567890123456-091415-0123456789abcdef0123456789abcdef-2100457788"


def answer(status: int, value: Any, **headers: str) -> ProviderAnswer:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return provider_answer(status, named, body, token=TOKEN, may_be_empty=False)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("400-empty_required_header", "empty_required_header", "Missing HTTP header: X-Idempotency-Key"),
        ("401-unauthorized-flat", "unauthorized", "authorization value not present"),
        ("409-idempotency_key_already_used", "idempotency_key_already_used", None),
        ("423-resource_locked", "resource_locked", None),
    ],
)
def test_envelopes_of_the_orders_api(name: str, code: str, message: str | None) -> None:
    got = answer(int(name[:3]), (ERRORS / f"{name}.json").read_bytes())
    assert got.code == code
    assert got.message
    assert message is None or message in got.message


def test_a_declined_creation_names_its_reason_and_carries_the_order() -> None:
    got = answer(402, (ERRORS / "402-failed-with-order.json").read_bytes())
    assert got.code == "failed"
    assert got.message is not None
    assert got.message.startswith("The following transactions failed: PAY")
    assert got.document is not None
    assert isinstance(got.document["data"], dict)


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (
            {"message": "m", "error": "bad_request", "status": 400, "cause": [{"code": 2063, "description": "state"}]},
            "2063",
            "state",
        ),
        ({"message": "no such", "error": "not_found", "status": 404, "cause": []}, "not_found", "no such"),
        ({"error": "invalid_items", "message": "an array", "status": 400, "causes": []}, "invalid_items", "an array"),
        ({"error": "invalid_token", "message": "", "status": 401, "causes": [{"code": "x_1"}]}, "x_1", None),
        ({"error": "x", "cause": {"code": "4292", "description": "no key"}}, "4292", "no key"),
        ({"message": "UNAUTHORIZED.", "blocked_by": "PolicyAgent", "code": "PA_NO"}, "PA_NO", "UNAUTHORIZED."),
        ({"error": "Not Found", "message": "no route"}, None, "no route"),
        ({"errors": [{"code": "c", "message": "m", "details": ["a", "b", 7]}]}, "c", "m: a; b; 7"),
        ({"errors": [{"code": "c", "details": ["a"]}]}, "c", "a"),
        ({"errors": [{"message": "m"}], "code": "flat"}, "flat", "m"),
        ({"errors": []}, None, None),
        ({"code": 500, "message": "  two\nlines\x07 "}, "500", "two lines"),
        ({"code": "c" * 65, "message": "x" * 400}, None, "x" * 249 + "…"),
        ({"code": "ñ"}, None, None),
    ],
)  # fmt: skip
def test_code_and_words(value: object, code: str | None, message: str | None) -> None:
    got = answer(400, value)
    assert (got.code, got.message) == (code, message)
    assert got.document is not None


def test_success_has_no_complaint() -> None:
    got = answer(201, {"id": "ORD1", "code": "x", "message": "y", "total_amount": "5.00"})
    assert (got.code, got.message) == (None, None)
    assert got.document == {"id": "ORD1", "code": "x", "message": "y", "total_amount": "5.00"}


def test_what_jsonb_refuses_is_replaced() -> None:
    got = answer(201, b'{"id":"a\\u0000b","n":1e-3}')
    assert got.document is not None
    assert got.document["id"] == "a\\u0000b"
    assert "\\u0000" in got.text
    assert json.loads(got.text)["id"] == "a\\u0000b"


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("7200", 900.0), ("later", None)])
def test_retry_after(value: str, seconds: float | None) -> None:
    assert answer(429, {}, Retry_After=value).retry_after_seconds == seconds


def test_other_tokens_in_the_words_are_left_out_too() -> None:
    got = answer(401, {"code": "unauthorized", "message": "APP_USR-999999999999-1 and Bearer abc"})
    assert got.message == "*** and ***"


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(TOKEN),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["errors", "cause", "causes", "code", "error", "message", "details"]), inner)
    ),
)


@given(
    st.integers(100, 599),
    st.binary(max_size=200) | documents.map(lambda value: json.dumps(value).encode()),
    st.booleans(),
)
def test_no_answer_can_raise_anything_but_the_tree(status: int, body: bytes, may_be_empty: bool) -> None:
    try:
        got = provider_answer(status, {}, body, token=TOKEN, may_be_empty=may_be_empty)
    except NonsenseAnswer:
        assert status < 400
        return
    assert got.status == status
    assert got.code is None or (len(got.code) <= 64 and got.code.isascii() and " " not in got.code)
    assert got.message is None or (0 < len(got.message) <= 250 and got.message.isprintable())
    assert (got.text == "") is (got.document is None)
    assert "\x00" not in got.text
    assert TOKEN not in repr(got)
