"""The lifecycle table, enumerated, and the money totals that follow from it."""

from decimal import Decimal

import pytest

from service.orders.lifecycle import (
    KNOWN_STATUSES,
    LIFECYCLE,
    canonical_status,
    is_closed,
    is_open,
    is_paid,
    is_sale,
    is_terminal,
    not_refunded,
    paid_sum,
    paid_total,
    processed_refunds,
    refunded_total,
)
from service.orders.snapshot import CashOut, Payment
from tests.unit.orders.orders_samples import chargeback, order, paid, refund, unpaid

# status: open, closed, paid, terminal
TABLE = {
    "created": (True, False, False, False),
    "at_terminal": (True, False, False, False),
    "processing": (True, False, False, False),
    "action_required": (True, False, False, False),
    "canceled": (False, True, False, True),
    "cancelled": (False, True, False, True),
    "expired": (False, True, False, True),
    "failed": (False, True, False, True),
    "processed": (False, False, True, False),
    "refunded": (False, False, True, True),
    "charged_back": (False, False, True, False),
}


def test_the_table_holds_each_status_once() -> None:
    assert {status.name for status in LIFECYCLE} == set(TABLE) == set(KNOWN_STATUSES)
    assert len(LIFECYCLE) == len(TABLE)


@pytest.mark.parametrize("status", [*TABLE, "a_new_status", "Created", "", None])
def test_every_status_stands_where_the_table_says(status: str | None) -> None:
    expected = TABLE.get(status or "", (False, False, False, False))
    payment = Payment("PAY1", status=status)
    assert (is_open(status), is_closed(status), is_paid(payment), is_terminal(status)) == expected
    assert sum(expected[:3]) == (1 if status in TABLE else 0)


def test_cancelled_is_canceled_and_all_else_is_kept() -> None:
    assert canonical_status("cancelled") == "canceled"
    for status in (*(set(TABLE) - {"cancelled"}), "a_new_status", "", None):
        assert canonical_status(status) == status


@pytest.mark.parametrize("status", [*TABLE, "a_new_status", None])
@pytest.mark.parametrize(
    ("amount", "paid_amount", "expected"),
    [("50.00", "47.28", "47.28"), ("50.00", "0.00", "0.00"), ("50.00", None, "50.00"), (None, None, "0")],
)
def test_paid_sum_needs_a_paid_status(
    status: str | None, amount: str | None, paid_amount: str | None, expected: str
) -> None:
    payment = Payment(
        "PAY1",
        status=status,
        amount=None if amount is None else Decimal(amount),
        paid_amount=None if paid_amount is None else Decimal(paid_amount),
    )
    assert paid_sum(payment) == (Decimal(expected) if TABLE.get(status or "", (0, 0, False))[2] else 0)


def test_totals_of_an_order() -> None:
    snapshot = order(
        "processed",
        paid("PAY1", of="30.00"),
        paid("PAY2", of="20.00", status="charged_back"),
        unpaid("PAY3", of="99.00", status="failed", paid_amount=Decimal(99)),
        refunds=(
            refund("REF1", of="5.00"),
            refund("REF2", of="2.50"),
            refund("REF3", of="1.00", status="processing"),
            refund("REF4", of="1.00", status="failed"),
            refund("REF5", of=None),
            refund("REF6", of="3.00", payment="PAY2"),
            refund("REF7", of="4.00", payment=None),
        ),
    )
    assert paid_total(snapshot) == Decimal("50.00")
    assert processed_refunds(snapshot, "PAY1") == Decimal("7.50")
    assert processed_refunds(snapshot, "PAY2") == Decimal("3.00")
    assert processed_refunds(snapshot, "PAY9") == 0
    assert refunded_total(snapshot) == Decimal("14.50")
    assert [not_refunded(snapshot, payment) for payment in snapshot.payments] == [True, True, False]


@pytest.mark.parametrize(("returned", "sale"), [("0", True), ("49.99", True), ("50.00", False), ("50.01", False)])
def test_a_sale_is_paid_and_not_fully_refunded(returned: str, sale: bool) -> None:
    assert is_sale(order("processed", paid(), refunds=(refund(of=returned),))) is sale
    assert is_sale(order("processed", paid(), refunds=(refund(of=returned, status="processing"),)))


def test_what_is_a_sale_and_what_is_none() -> None:
    assert is_sale(order("charged_back", paid(status="charged_back"), chargebacks=(chargeback(),)))
    assert not is_sale(order("created", unpaid(paid_amount=Decimal(50))))
    assert not is_sale(order("processed"))
    assert not is_sale(order("processed", paid(of="0.00")))
    cash_back = order(
        "processed",
        paid(),
        cash_outs=(CashOut("CAS1", Decimal("50.00")),),
        refunds=(refund(payment="CAS1"),),
    )
    assert is_sale(cash_back)
