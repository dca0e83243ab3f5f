"""Answers are read tolerantly: ids, amounts and statuses where they are, nothing where they are not."""

from decimal import Decimal

import pytest
from hypothesis import given

from service.desk.told import MadeRefund, decline_of, order_of, refunds_of
from tests.unit.desk.desk_answers import ORDER_ID, PAYMENT_ID
from tests.unit.desk.desk_bodies import ANY_JSON


def test_the_order_is_the_answer_or_in_its_data() -> None:
    assert order_of({"id": ORDER_ID, "status": "created"}) == (ORDER_ID, "created")
    assert order_of({"errors": [], "data": {"id": ORDER_ID, "status": "failed"}}) == (ORDER_ID, "failed")
    assert order_of({"id": ORDER_ID, "status": 5}) == (ORDER_ID, None)
    assert order_of({"id": "ORDTST" + "0" * 26}) == ("ORDTST" + "0" * 26, None)


@pytest.mark.parametrize(
    "document", [None, {}, {"id": None}, {"id": True}, {"id": "a/b"}, {"id": "x" * 65}, {"data": 5}]
)
def test_without_an_id_there_is_no_order(document: dict[str, object] | None) -> None:
    assert order_of(document) == (None, None)


def test_refunds_are_listed_with_what_can_be_read() -> None:
    document: dict[str, object] = {
        "transactions": {
            "refunds": [
                {"id": "REF1", "transaction_id": PAYMENT_ID, "amount": "24.90", "status": "processed"},
                {"id": "REF2", "transaction_id": 5, "amount": 5, "status": "processing"},
                {"id": "REF3", "amount": "much", "status": ["odd"]},
                {"amount": "1.00"},
                "REF5",
            ]
        }
    }
    assert refunds_of(document) == (
        MadeRefund("REF1", PAYMENT_ID, Decimal("24.90"), "processed"),
        MadeRefund("REF2", "5", Decimal(5), "processing"),
        MadeRefund("REF3", None, None, None),
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [("approved", "processed"), ("in_process", "processing"), ("rejected", "failed"), ("odd", "odd")],
)
def test_a_refund_of_the_payments_api_is_put_in_the_words_of_orders(word: str, status: str) -> None:
    document = {"id": 77, "payment_id": 92937960454, "amount": Decimal("5.0"), "status": word}
    assert refunds_of(document) == (MadeRefund("77", "92937960454", Decimal("5.0"), status),)


def test_the_reason_of_a_decline_is_the_first_payments() -> None:
    payments = {"payments": [{"status_detail": None}, {"status_detail": "high_risk"}]}
    assert decline_of({"data": {"transactions": payments}}) == "high_risk"
    assert decline_of({"transactions": payments}) == "high_risk"
    assert decline_of({"data": {}}) is None


@given(ANY_JSON)
def test_nothing_in_an_answer_is_a_surprise(document: object) -> None:
    if isinstance(document, dict):
        order_of(document)
        decline_of(document)
        assert all(refund.refund_id for refund in refunds_of(document))
