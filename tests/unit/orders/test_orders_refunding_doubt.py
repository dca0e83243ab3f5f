"""What the provider shows in an odd way counts against a refund: rather one too few than one too many."""

from dataclasses import replace
from decimal import Decimal

import pytest

from service.orders.asked import AskedCommand
from service.orders.refunding import what_is_left
from service.orders.snapshot import Chargeback, Refund
from tests.unit.orders.orders_samples import NOW, paid

PAYMENT = replace(paid("PAY1"), amount=Decimal(100), paid_amount=Decimal(100))


@pytest.mark.parametrize("status", ["pending", "created", "approved", "in_process", "authorized", None])
def test_a_refund_of_a_status_that_nobody_knows_is_on_its_way(status: str | None) -> None:
    shown = Refund("REF1", "PAY1", Decimal(100), status)

    assert what_is_left([PAYMENT], [shown], [])["PAY1"].left == 0


def test_a_failed_refund_gave_nothing_back() -> None:
    assert what_is_left([PAYMENT], [Refund("REF1", "PAY1", Decimal(100), "failed")], [])["PAY1"].left == 100


def test_what_the_payment_says_was_refunded_counts_without_a_refund() -> None:
    told = replace(PAYMENT, refunded_amount=Decimal(60))

    assert what_is_left([told], [], [])["PAY1"].left == 40
    # And once, where the list says it, too.
    assert what_is_left([told], [Refund("REF1", "PAY1", Decimal(60), "processed")], [])["PAY1"].left == 40
    assert what_is_left([told], [Refund("REF1", "PAY1", Decimal(60), "processing")], [])["PAY1"].left == 40


@pytest.mark.parametrize(("status", "left"), [("in_process", 70), ("settled", 70), ("reimbursed", 100)])
def test_what_a_bank_takes_is_not_given_back_again(status: str, left: int) -> None:
    taken = Chargeback("CBK1", "PAY1", Decimal(30), status)

    assert what_is_left([PAYMENT], [], [], [taken])["PAY1"].left == left


def test_a_payment_charged_back_without_a_record_leaves_nothing() -> None:
    assert what_is_left([replace(PAYMENT, status="charged_back")], [], [])["PAY1"].left == 0


def test_a_reservation_is_freed_by_what_shows_of_it_and_no_more() -> None:
    command = AskedCommand(
        "CMD1", "refund", "accepted", NOW, reserved={"PAY1": Decimal(80)}, refund_ids=("REF1", "REF2")
    )

    assert what_is_left([PAYMENT], [Refund("REF1", "PAY1", Decimal(30), "processed")], [command])["PAY1"].left == 20
