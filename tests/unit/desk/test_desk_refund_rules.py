"""What a refund may ask for, and the bodies that are sent for it."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.desk.amounts import amount_text
from service.desk.errors import InvalidRequest
from service.desk.refund_rules import AskedRefund, check_refund, legacy_refund_body, refund_body
from service.mercadopago.json_text import parse_json
from tests.unit.desk.desk_bodies import ANY_JSON


def faults(body: object, currency: str | None = None) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        check_refund(body, currency=currency)
    return {fault.path: fault.message for fault in refused.value.faults}


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, AskedRefund(None, None)),
        ({"amount": "24.90"}, AskedRefund(None, Decimal("24.90"))),
        ({"amount": "24.9"}, AskedRefund(None, Decimal("24.9"))),
        ({"payment_id": "PAY01", "amount": "5"}, AskedRefund("PAY01", Decimal(5))),
        ({"payment_id": "92937960454"}, AskedRefund("92937960454", None)),
    ],
)
def test_a_refund_is_read(body: object, asked: AskedRefund) -> None:
    assert check_refund(body) == asked


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (None, ["body"]),
        ([], ["body"]),
        ("5.00", ["body"]),
        ({"amount": 5}, ["amount"]),
        ({"amount": 5.0}, ["amount"]),
        ({"amount": None}, ["amount"]),
        ({"amount": "0"}, ["amount"]),
        ({"amount": "0.00"}, ["amount"]),
        ({"amount": "-5"}, ["amount"]),
        ({"amount": "5.001"}, ["amount"]),
        ({"amount": "5,00"}, ["amount"]),
        ({"amount": ""}, ["amount"]),
        ({"payment_id": ""}, ["payment_id"]),
        ({"payment_id": None}, ["payment_id"]),
        ({"payment_id": 92937960454}, ["payment_id"]),
        ({"payment_id": "PAY/../1"}, ["payment_id"]),
        ({"sum": "5.00"}, ["sum"]),
        ({"transactions": [{"id": "PAY1", "amount": "5.00"}]}, ["transactions"]),
        ({"payment_id": 5, "amount": 5, "note": "x"}, ["payment_id", "amount", "note"]),
    ],
)
def test_what_is_wrong_is_named(body: object, places: list[str]) -> None:
    assert list(faults(body)) == places


def test_an_amount_under_another_name_is_told_what_there_is() -> None:
    assert faults({"sum": "5.00"}) == {"sum": "is unknown; there are payment_id, amount"}


def test_amounts_are_as_fine_as_the_currency() -> None:
    assert list(faults({"amount": "990.50"}, "CLP")) == ["amount"]
    assert check_refund({"amount": "990"}, currency="CLP").amount == 990


@given(ANY_JSON)
def test_any_json_passes_or_is_refused_and_nothing_else(body: object) -> None:
    try:
        asked = check_refund(body)
    except InvalidRequest:
        return
    assert asked.amount is None or asked.amount > 0


def test_a_total_refund_has_no_body() -> None:
    assert refund_body({"PAY1": Decimal("5.00")}, total=True) is None
    assert legacy_refund_body(None) == "{}"


def test_a_partial_refund_names_payments_and_amounts() -> None:
    reserved = {"PAY2": Decimal("24.9"), "PAY1": Decimal(990)}
    body = refund_body(reserved, total=False)
    assert body == '{"transactions":[{"id":"PAY1","amount":"990"},{"id":"PAY2","amount":"24.90"}]}'
    assert body == refund_body(dict(reversed(reserved.items())), total=False)


@given(st.dictionaries(st.text("PAY012", min_size=1), st.integers(1, 10**12).map(lambda n: Decimal(n).scaleb(-2))))
def test_a_partial_refund_says_exactly_what_is_reserved(reserved: dict[str, Decimal]) -> None:
    if not reserved:
        with pytest.raises(ValueError, match="without a payment"):
            refund_body(reserved, total=False)
        return
    body = refund_body(reserved, total=False)
    assert body is not None
    assert {entry["id"]: Decimal(entry["amount"]) for entry in json.loads(body)["transactions"]} == reserved


def test_a_legacy_refund_is_a_number_with_its_digits() -> None:
    assert legacy_refund_body(Decimal("5.00")) == '{"amount":5.00}'
    assert legacy_refund_body(Decimal("1E+3")) == '{"amount":1000}'
    assert parse_json(legacy_refund_body(Decimal("0.10")).encode()).value == {"amount": Decimal("0.10")}


@pytest.mark.parametrize(
    ("amount", "text"),
    [("12.5", "12.50"), ("12.50", "12.50"), ("12", "12"), ("12.00", "12.00"), ("1E+3", "1000"), ("12.500", "12.50")],
)
def test_amounts_have_two_decimals_or_none(amount: str, text: str) -> None:
    assert amount_text(Decimal(amount)) == text


def test_an_amount_is_never_rounded() -> None:
    with pytest.raises(ValueError, match="more than two decimals"):
        amount_text(Decimal("12.505"))
