"""Bodies of commands: exact, said once, every fault by its path; nothing that was sent is repeated."""

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web.bodies import CreateBody, EmptyBody, LegacyPutBody, RefundBody, UnusableBody, parse_body, parse_object
from service.web.errors import BadParameters


def test_numbers_keep_every_digit() -> None:
    text = b'{"order": {"unit_price": 0.10, "total": 1234567890123456.78, "quantity": 3, "tiny": 1E-7}}'
    order = parse_object(text)["order"]
    assert order == {
        "unit_price": Decimal("0.10"), "total": Decimal("1234567890123456.78"), "quantity": 3, "tiny": Decimal("1E-7"),
    }  # fmt: skip
    assert str(order["unit_price"]) == "0.10"
    assert type(order["quantity"]) is int
    assert isinstance(parse_body(CreateBody, {"order": order}).order["unit_price"], Decimal)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"{", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b"{} {}", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"amount": 1, "amount": 2}', "'amount' stands twice in one object"),
        (b'{"a": [{"b": 1, "c": 2, "b": 1}]}', "'b' stands twice in one object"),
        (b'{"a": 1' + b"0" * 61 + b"}", "more than 60 digits"),
        (b'{"a": 1e999999999999}', "more than 60 digits"),
        (b'{"a": 1e-61}', "more than 60 digits"),
        (b'{"a": 0.' + b"1" * 200 + b"}", "more than 60 digits"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\ud800": 1}', "half a surrogate pair"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper"),
        (b'{"a":' + b"[" * 60_000, "nested deeper"),
    ],
)
def test_what_is_no_body_is_told_in_one_line(raw: bytes, words: str) -> None:
    with pytest.raises(UnusableBody) as caught:
        parse_object(raw)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@given(raw=st.binary(max_size=200))
def test_no_bytes_break_the_reading(raw: bytes) -> None:
    with contextlib.suppress(UnusableBody):
        assert isinstance(parse_object(raw), dict)


_NO_NUL = st.characters(codec="utf-8", exclude_characters="\0")
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(_NO_NUL, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_NO_NUL, max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(_NO_NUL, max_size=8), _VALUES, max_size=5))
def test_every_object_is_read_as_what_it_says(value: dict[str, Any]) -> None:
    assert parse_object(json.dumps(value).encode()) == value
    assert parse_object(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("model", "content", "paths"),
    [
        (CreateBody, {}, ["order"]),
        (CreateBody, {"order": []}, ["order"]),
        (CreateBody, {"order": {}, "acount": "x", "account": 7}, ["account", "acount"]),
        (EmptyBody, {"a": 1, "b": 2}, ["a", "b"]),
        (RefundBody, {"amount": 5}, ["amount"]),
        (RefundBody, {"amount": None}, ["amount"]),
        (RefundBody, {"amount": None, "payment_id": None}, ["payment_id", "amount"]),
        (RefundBody, {"amount": Decimal("5.00")}, ["amount"]),
        (RefundBody, {"amount": "-5.00"}, ["amount"]),
        (RefundBody, {"amount": "1e3"}, ["amount"]),
        (RefundBody, {"amount": "5\n", "payment_id": "a b"}, ["payment_id", "amount"]),
        (LegacyPutBody, {"order": "x", "ttl_seconds": "180"}, ["order", "ttl_seconds"]),
        (LegacyPutBody, {"order": {}, "ttl_seconds": True}, ["ttl_seconds"]),
        (LegacyPutBody, {"order": {}, "ttl_seconds": 0}, ["ttl_seconds"]),
        (LegacyPutBody, {"order": {}, "ttl_seconds": 86_401}, ["ttl_seconds"]),
    ],
)
def test_every_fault_is_named_by_its_path(model: Any, content: dict[str, Any], paths: list[str]) -> None:
    with pytest.raises(BadParameters) as caught:
        parse_body(model, content)
    assert sorted(path for path, _ in caught.value.problems) == sorted(paths)
    assert all(message for _, message in caught.value.problems)


def test_a_fault_repeats_no_value() -> None:
    with pytest.raises(BadParameters) as caught:
        parse_body(RefundBody, {"amount": "secret-1", "payment_id": "secret 2", "order": {"token": "secret-3"}})
    assert "secret" not in str(caught.value)
    with pytest.raises(UnusableBody) as unusable:
        parse_object(b'{"token": "secret-1" "b"}')
    assert "secret" not in str(unusable.value)


def test_what_is_left_out_is_none() -> None:
    everything, part = parse_body(RefundBody, {}), parse_body(RefundBody, {"amount": "24.90"})
    assert (everything.payment_id, everything.amount) == (None, None)
    assert (part.payment_id, part.amount) == (None, "24.90")
    assert parse_body(LegacyPutBody, {"order": {"items": []}, "ttl_seconds": 180}).ttl_seconds == 180


def test_the_document_offers_no_null_where_none_is_taken() -> None:
    schema = RefundBody.model_json_schema()
    assert "null" not in str(schema)
    assert "default" not in str(schema["properties"])
    assert "required" not in schema
