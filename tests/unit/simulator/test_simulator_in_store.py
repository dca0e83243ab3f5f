"""The books of the legacy attended QR: states of a merchant order, and the arithmetic of its money."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.simulator.config import SimulatorConfig
from service.simulator.draws import Draws
from service.simulator.in_store import InStoreBook, MerchantOrder, NotPossible
from service.simulator.in_store_rules import read_refund, read_v1, read_v2, v1_expiry, v2_expiry
from service.simulator.in_store_shapes import merchant_order_view, number, offset_time, payment_view, refund_view
from service.simulator.schema import Invalid

START = datetime(2026, 9, 14, 12, 0, 0, 123000, tzinfo=UTC)
CONFIG = SimulatorConfig()
ITEM: dict[str, Any] = {"title": "Yerba", "unit_price": 0.1, "quantity": 3}
REQUEST: dict[str, Any] = {"external_reference": "sale", "items": [ITEM]}


def opened(total: str = "100.00", seed: int = 1) -> tuple[InStoreBook, MerchantOrder]:
    book = InStoreBook(CONFIG, Draws(seed))
    order = book.put("2100457788", "CAJA01", "v1", REQUEST, Decimal(total), START, START + timedelta(minutes=10))
    merchant_order, new = book.scan(order, START)
    assert new
    return book, merchant_order


def test_a_second_scan_is_the_same_order() -> None:
    book, merchant_order = opened()
    assert book.scan(merchant_order.order, START) == (merchant_order, False)
    assert (merchant_order.status, merchant_order.order_status) == ("opened", "payment_required")


def test_a_rejected_attempt_leaves_the_order_open_and_the_next_one_closes_it() -> None:
    book, merchant_order = opened()
    book.pay(merchant_order, START, status="rejected", status_detail="cc_rejected_other_reason")
    assert (merchant_order.status, merchant_order.order_status) == ("opened", "payment_required")
    book.pay(merchant_order, START)
    assert (merchant_order.status, merchant_order.order_status) == ("closed", "paid")
    assert (merchant_order.order.state, book.shown("2100457788", "CAJA01")) == ("paid", None)
    with pytest.raises(NotPossible, match="closed"):
        book.pay(merchant_order, START)


def test_an_ended_order_is_expired_unless_money_is_on_its_way() -> None:
    book, merchant_order = opened()
    payment = book.pay(merchant_order, START, status="in_process", status_detail="pending_contingency")
    assert book.end(merchant_order.order, "expired", START)
    assert (merchant_order.status, merchant_order.order_status) == ("opened", "payment_in_process")
    book.settle(payment, "rejected", "cc_rejected_other_reason", START)
    assert (merchant_order.status, merchant_order.order_status) == ("expired", "expired")
    book.pay(merchant_order, START)
    assert merchant_order.status == "closed"
    assert not book.end(merchant_order.order, "expired", START)


def test_refunds_until_all_is_back() -> None:
    book, merchant_order = opened()
    payment = book.pay(merchant_order, START)
    book.refund(payment, Decimal("30.00"), "approved", START)
    assert (payment.status, payment.status_detail, merchant_order.order_status) == (
        "approved",
        "partially_refunded",
        "partially_reverted",
    )
    running = book.refund(payment, None, "in_process", START)
    assert (running.amount, payment.left, payment.status) == (Decimal("70.00"), Decimal("0.00"), "approved")
    with pytest.raises(NotPossible) as refused:
        book.refund(payment, Decimal("0.01"), "approved", START)
    assert refused.value.number == 2063
    book.end_refund(payment, running, "rejected", START)
    book.refund(payment, None, "approved", START)
    assert (payment.status, merchant_order.order_status, merchant_order.status) == ("refunded", "reverted", "closed")


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["pay", "reject", "pending", "approve", "decline", "chargeback", "refund", "running", "end"]),
        st.none() | st.decimals(min_value=Decimal("0.01"), max_value=Decimal(120), places=2),
    ),
    max_size=25,
)


@given(acts=ACTS)
def test_no_story_gives_back_more_than_was_paid(acts: list[tuple[str, Decimal | None]]) -> None:
    book, merchant_order = opened()
    for name, amount in acts:
        with suppress(NotPossible):
            act(book, merchant_order, name, amount)
        for payment in merchant_order.payments:
            assert Decimal(0) <= payment.refunded <= payment.amount
            assert payment.left >= 0
            if payment.status in {"approved", "refunded"}:
                assert (payment.status == "refunded") is (payment.refunded == payment.amount)
        assert merchant_order.refunded_amount <= merchant_order.paid_amount
        assert (merchant_order.status == "closed") is (merchant_order.paid_amount >= merchant_order.order.total)


def act(book: InStoreBook, merchant_order: MerchantOrder, name: str, amount: Decimal | None) -> None:
    statuses = {"pay": "approved", "reject": "rejected", "pending": "in_process"}
    if name in statuses:
        book.pay(merchant_order, START, amount=amount, status=statuses[name], status_detail="x")
        return
    if not merchant_order.payments:
        return
    payment = merchant_order.payments[-1]
    if name in {"approve", "decline", "chargeback"}:
        status = {"approve": "approved", "decline": "rejected", "chargeback": "charged_back"}[name]
        book.settle(payment, status, "x", START)
    elif name in {"refund", "running"}:
        book.refund(payment, amount, "approved" if name == "refund" else "in_process", START)
    else:
        for refund in payment.refunds:
            if refund.status == "in_process":
                book.end_refund(payment, refund, "approved", START)


def test_bodies_have_numbers_and_offset_dates() -> None:
    book, merchant_order = opened("19.90")
    payment = book.pay(merchant_order, START)
    refund = book.refund(payment, Decimal("9.90"), "approved", START)
    order_view, view = merchant_order_view(merchant_order, CONFIG), payment_view(payment, merchant_order, CONFIG)
    assert (order_view["total_amount"], order_view["refunded_amount"]) == (19.9, 9.9)
    assert order_view["date_created"] == "2026-09-14T08:00:00.123-04:00"
    assert len(str(order_view["id"])) == 11
    assert (view["transaction_amount"], view["date_approved"]) == (19.9, "2026-09-14T08:00:00.123-04:00")
    fee = view["fee_details"][0]["amount"]
    assert (fee, view["transaction_details"]["net_received_amount"]) == (0.16, 19.74)
    assert refund_view(refund, merchant_order.order)["amount"] == 9.9
    assert (number(Decimal("5.00")), offset_time(None)) == (5, None)


def test_a_seed_decides_ids() -> None:
    ids = [opened(seed=seed)[1].merchant_order_id for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_totals_are_exact() -> None:
    assert read_v1(REQUEST) == Decimal("0.3")
    item = ITEM | {"total_amount": 0.3}
    body = REQUEST | {
        "title": "t",
        "description": "d",
        "total_amount": 10.3,
        "items": [item],
        "cash_out": {"amount": 10},
    }
    assert read_v2(body) == Decimal("10.3")
    with pytest.raises(Invalid, match="sum of the items and the cash out"):
        read_v2(body | {"cash_out": None})


@pytest.mark.parametrize("amount", ["5.00", True, 0, -1, 1.234, 10**13, float("inf")])
def test_refund_amounts_are_positive_numbers_of_cents(amount: Any) -> None:
    with pytest.raises(Invalid, match="amount must be"):
        read_refund({"amount": amount})


def test_lives() -> None:
    assert v1_expiry(None, START) == START + timedelta(minutes=10)
    assert v1_expiry("180", START) == START + timedelta(minutes=3)
    assert v2_expiry({"expiration_date": "2026-09-14T08:30:00.123-04:00"}, START) == START + timedelta(minutes=30)
    for wrong in ("0", "-5", "soon", "²"):
        with pytest.raises(Invalid, match="number of seconds"):
            v1_expiry(wrong, START)
    for date in ("2026-09-14T07:59:00.000-04:00", "soon", 5):
        with pytest.raises(Invalid, match="time to come"):
            v2_expiry({"expiration_date": date}, START)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
SALE_V2 = {"external_reference": "s", "title": "t", "description": "d", "total_amount": 0.3}
NAMES = ["items", "external_reference", "title", "total_amount", "cash_out", "expiration_date", "sponsor_id", "sponsor"]


@given(name=st.sampled_from(NAMES), value=JSON)
def test_any_body_is_read_or_refused_and_what_was_read_can_be_shown(name: str, value: Any) -> None:
    body = REQUEST | SALE_V2 | {"items": [ITEM | {"total_amount": 0.3}], name: value}
    for read in (read_v1, read_v2):
        with suppress(Invalid):
            total = read(body)
            v2_expiry(body, START)
            book = InStoreBook(CONFIG, Draws(1))
            order = book.put("1", "CAJA01", "v1", body, total, START, START)
            merchant_order, _ = book.scan(order, START)
            payment = book.pay(merchant_order, START)
            assert merchant_order_view(merchant_order, CONFIG)["total_amount"] == number(total)
            assert payment_view(payment, merchant_order, CONFIG)["transaction_amount"] == number(total)
