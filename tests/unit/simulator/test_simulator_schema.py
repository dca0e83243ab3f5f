"""Shapes of bodies, and the words for what is wrong with them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.simulator.create_rules import check_create
from service.simulator.money import SITES
from service.simulator.schema import MESSAGES, Anything, Invalid, Many, Members, Shape, Text, Whole, check, wrongs

SHAPE = Members(
    {
        "name": Text(longest=5, pattern="[a-z]+"),
        "kind": Text(choices=("a", "b")),
        "count": Whole(low=2),
        "parts": Many(Members({"id": Text()}, ("id",)), fewest=1, most=2),
        "rest": Anything((dict, str)),
    },
    ("name",),
)


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({}, "required_properties", "missing properties: '$.name'"),
        ({"name": None}, "required_properties", "missing properties: '$.name'"),
        ({"name": "x", "other": 1}, "unsupported_properties", "additionalProperties '$.other' not allowed"),
        ({"name": 1}, "property_type", "expected string, but got integer: '$.name'"),
        ({"name": "x", "count": True}, "property_type", "expected integer, but got boolean: '$.count'"),
        ({"name": "x", "rest": []}, "property_type", "expected object or string, but got array: '$.rest'"),
        ({"name": "x", "parts": {}}, "property_type", "expected array, but got object: '$.parts'"),
        ({"name": "toolong"}, "property_value", "length must be <= 5, but got 7: '$.name'"),
        ({"name": "X"}, "property_value", "does not match pattern '[a-z]+': '$.name'"),
        ({"name": "x", "kind": "c"}, "property_value", "must be one of a, b: '$.kind'"),
        ({"name": "x", "count": 1}, "property_value", "must be at least 2: '$.count'"),
        ({"name": "x", "parts": []}, "minimum_items", "minimum 1 items required, but found 0 items: '$.parts'"),
        ({"name": "x", "parts": [{}]}, "required_properties", "missing properties: '$.parts[0].id'"),
        ([], "property_type", "expected object, but got array: '$'"),
    ],
)
def test_each_fault_has_its_code_and_place(body: Any, code: str, detail: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(SHAPE, body)
    assert (refused.value.code, refused.value.details) == (code, (detail,))


def test_all_places_of_the_first_kind_are_named() -> None:
    with pytest.raises(Invalid) as refused:
        check(Members({"a": Text(), "b": Text()}, ("a", "b")), {"a": 1, "c": 1, "d": 1})
    assert refused.value.code == "unsupported_properties"
    assert len(refused.value.details) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["type", "total_amount", "external_reference", "config", "transactions", "items", "payer", "discounts"]
BODY: dict[str, Any] = {
    "type": "qr",
    "total_amount": "10.00",
    "external_reference": "sale",
    "config": {"qr": {"external_pos_id": "C"}},
    "transactions": {"payments": [{"amount": "10.00"}]},
}


@given(value=JSON, shape=st.sampled_from([SHAPE, *SHAPE.known.values()]))
def test_any_json_is_judged_in_known_words(value: Any, shape: Shape) -> None:
    assert {code for code, _ in wrongs(shape, value, "$")} <= MESSAGES.keys()


@given(name=st.sampled_from(MEMBERS), value=JSON, kind=st.sampled_from(["qr", "point", "online"]))
def test_any_create_is_accepted_or_refused_with_a_code(name: str, value: Any, kind: str) -> None:
    refusal = refusal_of(BODY | {"type": kind, name: value})
    assert refusal is None or (refusal.status == 400 and refusal.code != "")


def refusal_of(body: dict[str, Any]) -> Invalid | None:
    """How a create is refused; any other exception is a fault of ours."""
    try:
        check_create(body, SITES["MLA"])
    except Invalid as refused:
        return refused
    return None


def test_a_currency_without_cents_takes_none() -> None:
    for amount, fine in (("10.00", True), ("10", True), ("10.50", False)):
        body = BODY | {"total_amount": amount, "transactions": {"payments": [{"amount": amount}]}}
        if fine:
            check_create(body, SITES["MLC"])
        else:
            with pytest.raises(Invalid, match="Invalid transaction amount"):
                check_create(body, SITES["MLC"])
