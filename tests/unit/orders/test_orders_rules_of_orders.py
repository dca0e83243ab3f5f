"""Each rule about an order by example: it opens, it resolves, and the exact boundary, from both sides."""

from dataclasses import replace
from decimal import Decimal

import pytest

from service.orders.snapshot import CashOut, Payment
from tests.unit.orders.orders_samples import (
    ORDER_ID,
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


def refunded(of: str = "50.00") -> Payment:
    return paid(of=of, status="refunded", refunded_amount=Decimal(of))


def partly_refunded(by: str, of: str = "50.00") -> Payment:
    return paid(of=of, refunded_amount=Decimal(by))


# order_status_mismatch


@pytest.mark.parametrize(("returned", "opens"), [("49.99", True), ("50.00", False), ("0", True)])
def test_refunded_order_against_its_paid_payments(returned: str, opens: bool) -> None:
    payment = paid(status="charged_back", refunded_amount=Decimal(returned))
    snapshot = order("refunded", payment, refunds=(refund(of=returned),))
    assert violations(snapshot) == ({("order_status_mismatch", ORDER_ID)} if opens else CLEAN)


def test_refunded_order_with_two_payments_needs_both_refunded() -> None:
    other = paid("PAY2", of="20.00")
    snapshot = order("refunded", refunded(of="30.00"), other, refunds=(refund(of="30.00"),))
    (finding,) = findings(snapshot)
    assert (finding.rule, finding.subject_id, finding.amount_at_stake) == (
        "order_status_mismatch",
        ORDER_ID,
        Decimal("20.00"),
    )
    assert "20.00 ARS" in finding.explanation
    dead_attempt = unpaid("PAY2", of="20.00", status="failed", paid_amount=Decimal("20.00"))
    assert violations(order("refunded", refunded(), dead_attempt, refunds=(refund(),))) == CLEAN


@pytest.mark.parametrize("status", ["processing", "failed", "created", "a_new_status", None])
def test_processed_order_without_a_paid_payment_opens_alone(status: str | None) -> None:
    snapshot = order("processed", Payment("PAY1", status=status, amount=Decimal(1), paid_amount=Decimal(50)))
    assert violations(snapshot) == {("order_status_mismatch", ORDER_ID)}
    assert violations(snapshot, order("processed", paid())) == CLEAN
    assert violations(order("processed", total_amount=None)) == {("order_status_mismatch", ORDER_ID)}
    assert violations(order("action_required", unpaid())) == CLEAN


# paid_total_mismatch


@pytest.mark.parametrize(("total", "opens"), [("49.99", True), ("50", False), ("50.01", True), (None, False)])
def test_paid_payments_against_the_total(total: str | None, opens: bool) -> None:
    payments = (
        paid("PAY1", of="30.00", paid_amount=Decimal("28.00")),  # a wallet discount
        paid("PAY2", of="20.00", paid_amount=Decimal("23.00"), tip_amount=Decimal("3.00")),
        unpaid("PAY3", of="20.00", status="failed"),
    )
    snapshot = order("processed", *payments, total_amount=None if total is None else Decimal(total))
    assert violations(snapshot) == ({("paid_total_mismatch", ORDER_ID)} if opens else CLEAN)


@pytest.mark.parametrize(
    ("total", "opens"), [("50.00", False), ("70.00", False), ("60.00", True), ("69.99", True), ("20.00", True)]
)
def test_cash_outs_may_be_in_the_total_or_not(total: str, opens: bool) -> None:
    snapshot = order(
        "processed",
        paid(),
        total_amount=Decimal(total),
        cash_outs=(CashOut("CAS1", Decimal("15.00")), CashOut("CAS2", Decimal("5.00"))),
    )
    assert violations(snapshot) == ({("paid_total_mismatch", ORDER_ID)} if opens else CLEAN)


def test_paid_total_says_nothing_without_a_paid_payment_or_its_amount() -> None:
    assert violations(order("created", unpaid(of="1.00"))) == CLEAN
    unknown = Payment("PAY2", status="processed", paid_amount=Decimal("1.00"))
    assert violations(order("processed", paid(of="30.00"), unknown)) == CLEAN
    assert violations(order("processed", paid(of="30.00"), replace(unknown, amount=Decimal("1.00")))) == {
        ("paid_total_mismatch", ORDER_ID)
    }


# paid_after_close


@pytest.mark.parametrize("closed", ["canceled", "cancelled", "expired", "failed"])
def test_money_after_close_opens_until_it_is_given_back(closed: str) -> None:
    before, late = order(closed, unpaid(status="expired")), order("processed", paid())
    assert violations(before) == CLEAN
    assert violations(before, late) == {("paid_after_close", ORDER_ID)}
    (finding,) = findings(before, late)
    assert finding.amount_at_stake == Decimal("50.00")
    assert ("expired" if closed == "expired" else closed.replace("cancelled", "canceled")) in finding.explanation
    almost = order("processed", partly_refunded("49.99"), refunds=(refund(of="49.99"),))
    assert violations(before, late, almost) == {("paid_after_close", ORDER_ID)}
    assert violations(before, late, order("refunded", refunded(), refunds=(refund(),))) == CLEAN


def test_first_sight_of_a_closed_order_that_is_paid_opens() -> None:
    assert violations(order("expired", paid())) == {("paid_after_close", ORDER_ID)}
    assert violations(order("expired", unpaid(paid_amount=Decimal(50)))) == CLEAN


def test_money_seen_before_the_close_is_not_late() -> None:
    first, closed = order("processed", paid()), order("canceled", paid())
    assert violations(first, closed) == CLEAN
    more = order("canceled", paid(), paid("PAY2", of="5.00"), total_amount=None)
    assert violations(first, closed, more) == {("paid_after_close", ORDER_ID)}
    assert violations(order("refunded", paid("PAY1")), order("processed", paid())) == CLEAN


def test_money_after_close_is_not_also_backwards() -> None:
    reopened = order("processing", paid())
    assert violations(order("expired", unpaid()), reopened) == {("paid_after_close", ORDER_ID)}


# record_vanished


def test_every_kind_of_record_is_missed_until_it_is_back() -> None:
    full = order(
        "processed",
        paid(refunded_amount=Decimal("10.00")),
        unpaid("PAY2", of="50.00", status="failed"),
        refunds=(refund(of="10.00"),),
        chargebacks=(chargeback(of="1.00", status="reimbursed"),),
        cash_outs=(CashOut("CAS1", Decimal("7.00")),),
    )
    bare = order("processed", paid())
    gone = {("record_vanished", record) for record in ("PAY2", "REF1", "CBK1", "CAS1")}
    assert violations(full, bare) == gone | {("went_backwards", ORDER_ID)}
    assert violations(full, bare, full) == CLEAN
    stakes = {finding.subject_id: finding.amount_at_stake for finding in findings(full, bare)}
    assert [stakes[record] for record in ("PAY2", "REF1", "CBK1", "CAS1")] == [50, 10, 1, 7]
    assert violations(bare, full) == CLEAN


# went_backwards


@pytest.mark.parametrize(("later", "opens"), [("9.99", True), ("10.00", False), ("10.01", False)])
def test_refunded_amount_below_its_peak(later: str, opens: bool) -> None:
    before = order("processed", partly_refunded("10.00"), refunds=(refund(of="10.00"),))
    after = order("processed", partly_refunded(later), refunds=(refund(of=later),))
    assert violations(before, after) == ({("went_backwards", ORDER_ID)} if opens else CLEAN)
    assert violations(before, after, before) == (CLEAN if later != "10.01" else {("went_backwards", ORDER_ID)})


def test_refunded_amount_that_disappears_falls_to_nothing() -> None:
    before = order("processed", partly_refunded("10.00"), refunds=(refund(of="10.00"),))
    after = order("processed", paid(), refunds=(refund(of="10.00", status="failed"),))
    (backwards,) = (finding for finding in findings(before, after) if finding.rule == "went_backwards")
    assert backwards.amount_at_stake == Decimal("10.00")
    assert "10.00 ARS" in backwards.explanation


@pytest.mark.parametrize("ended", ["canceled", "cancelled", "expired", "failed", "refunded"])
@pytest.mark.parametrize("reopened", ["created", "at_terminal", "processing", "action_required"])
def test_ended_order_that_waits_again(ended: str, reopened: str) -> None:
    before, after = order(ended, unpaid()), order(reopened, unpaid())
    assert violations(before, after) == {("went_backwards", ORDER_ID)}
    assert violations(before, after, order(ended, unpaid())) == CLEAN


@pytest.mark.parametrize(
    ("before", "after"),
    [("charged_back", "processed"), ("processed", "created"), ("charged_back", "created"), ("expired", "a_new_status")],
)
def test_steps_that_are_not_backwards(before: str, after: str) -> None:
    payment = paid() if after == "processed" else unpaid()
    earlier = paid() if before in ("charged_back", "processed") else unpaid()
    assert violations(order(before, earlier), order(after, payment)) == CLEAN


def test_fall_of_one_payment_and_reopening_are_one_finding() -> None:
    before = order("refunded", refunded(), refunds=(refund(),))
    found = findings(before, order("created", unpaid(), refunds=(refund(status="failed"),)))
    (backwards,) = (finding for finding in found if finding.rule == "went_backwards")
    assert "fell" in backwards.explanation
    assert "refunded and is created again" in backwards.explanation


# currency_changed


def test_currency_changed_until_the_first_is_back() -> None:
    unknown, pesos, reais = (order("created", unpaid(), currency=currency) for currency in (None, "ARS", "BRL"))
    assert violations(unknown, pesos) == CLEAN
    assert violations(pesos, unknown) == CLEAN
    assert violations(pesos, reais) == {("currency_changed", ORDER_ID)}
    assert violations(reais, pesos) == {("currency_changed", ORDER_ID)}
    assert violations(unknown, pesos, unknown, reais) == {("currency_changed", ORDER_ID)}
    assert violations(pesos, reais, pesos) == CLEAN
    assert violations(pesos, reais, unknown) == CLEAN
