"""Each rule about a payment or refund by example: it opens, it resolves, and the exact boundary, from both sides."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from service.orders.history import EMPTY, History, remember
from service.orders.rules import evaluate, rules_due_at
from service.orders.snapshot import CashOut, Payment
from tests.unit.orders.orders_samples import (
    NOW,
    chargeback,
    findings,
    order,
    paid,
    refund,
    unpaid,
    violations,
)

Violations = set[tuple[str, str]]
CLEAN: Violations = set()
DAY = timedelta(hours=24)
TICK = timedelta.resolution


def refunded(of: str = "50.00") -> Payment:
    return paid(of=of, status="refunded", refunded_amount=Decimal(of))


def partly_refunded(by: str, of: str = "50.00") -> Payment:
    return paid(of=of, refunded_amount=Decimal(by))


# refund_without_payment


@pytest.mark.parametrize("names", ["PAY9", None, "", "REF1"])
def test_refund_of_no_payment_opens(names: str | None) -> None:
    snapshot = order("processed", paid(), refunds=(refund(of="10.00", payment=names),))
    assert violations(snapshot) == {("refund_without_payment", "REF1")}


def test_refund_of_a_payment_or_cash_out_is_clean() -> None:
    cash = order(
        "processed",
        paid(of="40.00"),
        cash_outs=(CashOut("CAS1", Decimal("10.00")),),
        refunds=(refund(of="10.00", payment="CAS1"),),
    )
    assert violations(cash) == CLEAN
    assert violations(replace(cash, refunds=(refund(of="10.00", payment="CAS2"),))) == {
        ("refund_without_payment", "REF1")
    }
    resolved = order("processed", partly_refunded("10.00"), refunds=(refund(of="10.00"),))
    assert violations(order("processed", paid(), refunds=(refund(of="10.00", payment=None),)), resolved) == CLEAN


# refunds_exceed_paid


@pytest.mark.parametrize(
    ("processed", "processing", "opens"),
    [
        ("47.28", "0", False),
        ("47.27", "0.01", False),
        ("47.27", "0.02", True),
        ("40", "7.281", True),
        ("0", "48", True),
    ],
)
def test_refunds_against_what_was_paid(processed: str, processing: str, opens: bool) -> None:
    payment = paid(paid_amount=Decimal("47.28"), refunded_amount=Decimal(processed))
    if processed == "47.28":
        payment = replace(payment, status="refunded")
    snapshot = order(
        "processed", payment, refunds=(refund(of=processed), refund("REF2", of=processing, status="processing"))
    )
    assert violations(snapshot) == ({("refunds_exceed_paid", "PAY1")} if opens else CLEAN)


@pytest.mark.parametrize("status", ["failed", "a_new_status"])
def test_refunds_that_moved_no_money_do_not_exceed(status: str) -> None:
    snapshot = order("processed", paid(), refunds=(refund(of="60.00", status=status), refund("REF2", of="0.00")))
    assert ("refunds_exceed_paid", "PAY1") not in violations(snapshot)


def test_any_refund_of_an_unpaid_payment_exceeds() -> None:
    payment = unpaid(status="canceled", paid_amount=Decimal("50.00"))
    snapshot = order("canceled", payment, refunds=(refund(of="0.01", status="processing"),))
    (finding,) = findings(snapshot)
    assert (finding.rule, finding.amount_at_stake, finding.currency) == (
        "refunds_exceed_paid",
        Decimal("0.01"),
        "ARS",
    )
    assert "never paid" in finding.explanation
    assert violations(order("canceled", payment, refunds=(refund(of=None, status="processing"),))) == CLEAN


def test_paid_sum_is_the_amount_where_no_paid_amount_is_given() -> None:
    payment = paid(paid_amount=None, status="refunded", refunded_amount=Decimal("50.00"))
    assert violations(order("refunded", payment, refunds=(refund(),))) == CLEAN
    above = order("processed", replace(payment, refunded_amount=Decimal("50.01")), refunds=(refund(of="50.01"),))
    assert violations(above) == {("refunds_exceed_paid", "PAY1")}


# refunded_amount_mismatch


@pytest.mark.parametrize(
    ("stated", "opens"), [("9.99", True), ("10", False), ("10.000", False), ("10.01", True), (None, True)]
)
def test_refunded_amount_against_processed_refunds(stated: str | None, opens: bool) -> None:
    payment = paid(refunded_amount=None if stated is None else Decimal(stated))
    snapshot = order("processed", payment, refunds=(refund(of="4.00"), refund("REF2", of="6.00")))
    assert violations(snapshot) == ({("refunded_amount_mismatch", "PAY1")} if opens else CLEAN)
    assert violations(snapshot, order("processed", partly_refunded("10.01"), refunds=(refund(of="10.01"),))) == {
        ("record_vanished", "REF2")
    }


def test_refunded_amount_counts_processed_refunds_alone_and_every_payment() -> None:
    pending = order("processed", paid(), refunds=(refund(of="10.00", status="processing"),))
    assert violations(pending) == CLEAN
    stated = order("created", unpaid(refunded_amount=Decimal("0.01")))
    assert violations(stated) == {("refunded_amount_mismatch", "PAY1")}
    assert violations(order("created", unpaid(refunded_amount=Decimal("0.00")))) == CLEAN


# payment_status_mismatch


@pytest.mark.parametrize(
    ("status", "returned", "opens"),
    [
        ("refunded", "47.27", True),
        ("refunded", "47.28", False),
        ("processed", "47.27", False),
        ("processed", "47.28", True),
        ("charged_back", "47.28", False),
        ("charged_back", "47.27", False),
    ],
)
def test_payment_status_against_its_refunds(status: str, returned: str, opens: bool) -> None:
    payment = paid(status=status, paid_amount=Decimal("47.28"), refunded_amount=Decimal(returned))
    snapshot = order("charged_back", payment, refunds=(refund(of=returned),))
    assert violations(snapshot) == ({("payment_status_mismatch", "PAY1")} if opens else CLEAN)


def test_refunded_payment_waits_for_its_refund_to_be_processed() -> None:
    payment = paid(status="refunded")
    waiting = order("processed", payment, refunds=(refund(status="processing"),))
    assert violations(waiting) == {("payment_status_mismatch", "PAY1")}
    assert violations(waiting, order("refunded", refunded(), refunds=(refund(),))) == CLEAN


def test_unpaid_payments_and_payments_of_nothing_have_no_status_mismatch() -> None:
    unpaid_but_refunded = order("canceled", unpaid(status="canceled"), refunds=(refund(of="10.00"),))
    assert ("payment_status_mismatch", "PAY1") not in violations(unpaid_but_refunded)
    assert violations(order("processed", paid(of="0.00"), total_amount=Decimal(0))) == CLEAN


# refund_stuck


def test_refund_is_stuck_beyond_24_hours_of_first_sight() -> None:
    waiting = order("processed", paid(), refunds=(refund(of="10.00", status="processing"),))
    assert violations(waiting, after=DAY) == CLEAN
    assert violations(waiting, after=DAY + TICK) == {("refund_stuck", "REF1")}
    done = order("processed", partly_refunded("10.00"), refunds=(refund(of="10.00"),))
    assert violations(waiting, done, after=3 * DAY) == CLEAN
    assert violations(order("processed", paid()), waiting, after=DAY + TICK) == CLEAN  # first seen a minute later


def test_refund_stuck_keeps_its_first_sight_and_needs_one() -> None:
    waiting = order("processed", paid(), refunds=(refund(of="10.00", status="processing"),))
    history = History(refund_first_seen={"REF1": NOW - DAY})
    assert [finding.rule for finding in evaluate(waiting, remember(history, waiting, NOW), NOW + TICK)] == [
        "refund_stuck"
    ]
    assert evaluate(waiting, EMPTY, NOW + 9 * DAY) == ()


def test_rules_are_due_at_the_next_refund_to_be_stuck() -> None:
    pending = order(
        "processed",
        paid(),
        refunds=tuple(refund(f"REF{number}", of="1.00", status="processing") for number in (1, 2, 3)),
    )
    history = History(refund_first_seen={"REF1": NOW, "REF2": NOW - DAY, "REF3": NOW - 2 * DAY})
    assert rules_due_at(pending, history, NOW) == NOW + TICK
    assert rules_due_at(pending, history, NOW + TICK) == NOW + DAY + TICK
    assert rules_due_at(pending, history, NOW + DAY + TICK) is None
    assert rules_due_at(order("processed", paid(), refunds=(refund(),)), history, NOW) is None


# refund_failed


@pytest.mark.parametrize(
    ("later", "opens"),
    [
        ((), True),
        ((refund("REF2", of="9.99"),), True),
        ((refund("REF2", of="10.00"),), False),
        ((refund("REF2", of="10", status="processing"),), False),
        ((refund("REF2", of="4.00"), refund("REF3", of="6.00", status="processing")), False),
        ((refund("REF2", of="4.00"), refund("REF3", of="5.99")), True),
        ((refund("REF2", of="10.00", payment="PAY2"),), True),
        ((refund("REF2", of="10.00", status="a_new_status"),), True),
    ],
)
def test_failed_refund_is_covered_by_later_ones(later: tuple[object, ...], opens: bool) -> None:
    snapshot = order("processed", paid(), refunds=(refund(of="10.00", status="failed"), *later))
    assert (("refund_failed", "REF1") in violations(snapshot)) is opens


def test_refund_before_the_failed_one_does_not_cover_it() -> None:
    snapshot = order(
        "processed", partly_refunded("10.00"), refunds=(refund(of="10.00"), refund("REF2", of="10.00", status="failed"))
    )
    assert violations(snapshot) == {("refund_failed", "REF2")}
    (finding,) = findings(snapshot)
    assert finding.amount_at_stake == Decimal("10.00")


def test_a_retry_of_a_retry_covers_both_and_no_amount_still_needs_one() -> None:
    failed = (refund("REF1", of="10.00", status="failed"), refund("REF2", of="10.00", status="failed"))
    assert violations(order("processed", paid(), refunds=failed)) == {
        ("refund_failed", "REF1"),
        ("refund_failed", "REF2"),
    }
    covered = order("processed", partly_refunded("10.00"), refunds=(*failed, refund("REF3", of="10.00")))
    assert violations(covered) == CLEAN
    unknown = order("processed", paid(), refunds=(refund(of=None, status="failed"),))
    assert violations(unknown) == {("refund_failed", "REF1")}


# refund_and_chargeback


@pytest.mark.parametrize(
    ("returned", "taken", "status", "opens"),
    [
        ("20.00", "30.00", "in_process", False),
        ("20.00", "30.01", "in_process", True),
        ("20.00", "30.01", "settled", True),
        ("20.00", "50.00", "reimbursed", False),
        ("0.00", "50.01", "settled", False),
        ("0.01", "50.00", "settled", True),
        ("50.01", "0.00", "settled", False),
    ],
)
def test_refund_and_chargeback_beyond_what_was_paid(returned: str, taken: str, status: str, opens: bool) -> None:
    payment = paid(status="charged_back", refunded_amount=Decimal(returned))
    snapshot = order(
        "charged_back", payment, refunds=(refund(of=returned),), chargebacks=(chargeback(of=taken, status=status),)
    )
    alone = violations(snapshot) - {("refunds_exceed_paid", "PAY1")}
    assert alone == ({("refund_and_chargeback", "PAY1")} if opens else CLEAN)


def test_refund_in_processing_is_not_yet_given_twice() -> None:
    snapshot = order(
        "charged_back",
        paid(status="charged_back"),
        refunds=(refund(of="10.00", status="processing"),),
        chargebacks=(chargeback(),),
    )
    assert violations(snapshot) == CLEAN
