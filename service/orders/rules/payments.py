"""Rules about one payment: its refunds and chargebacks against what was paid, and its status against both."""

from collections.abc import Iterator
from datetime import datetime

from service.orders.history import History
from service.orders.lifecycle import (
    CHARGEBACK_TAKES,
    REFUND_PROCESSED,
    REFUND_PROCESSING,
    is_paid,
    paid_sum,
    processed_refunds,
)
from service.orders.money import ZERO, less, total_of
from service.orders.rules.finding import Finding, spoken
from service.orders.snapshot import OrderSnapshot


def refunds_exceed_paid(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """Processed and processing refunds of a payment are above what was paid; an unpaid payment paid 0."""
    if not snapshot.refunds:
        return
    for payment in snapshot.payments:
        paid = paid_sum(payment)
        returned = total_of(
            refund.amount
            for refund in snapshot.refunds
            if refund.transaction_id == payment.payment_id and refund.status in (REFUND_PROCESSED, REFUND_PROCESSING)
        )
        if returned > paid:
            excess = less(returned, paid)
            given, received = spoken(returned, snapshot.currency), spoken(paid, snapshot.currency)
            was_paid = f"only {received} were paid" if is_paid(payment) else "it was never paid"
            yield Finding(
                rule="refunds_exceed_paid",
                subject_id=payment.payment_id,
                severity="critical",
                amount_at_stake=excess,
                currency=snapshot.currency,
                expected=f"refunds of at most {received}",
                actual=f"refunds of {given}",
                explanation=f"Refunds of payment {payment.payment_id} come to {given}, but {was_paid}: "
                f"{spoken(excess, snapshot.currency)} too much.",
            )


def refunded_amount_mismatch(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """`refunded_amount` of a payment (0 where absent) differs from the sum of its processed refunds."""
    for payment in snapshot.payments:
        stated = payment.refunded_amount if payment.refunded_amount is not None else ZERO
        listed = processed_refunds(snapshot, payment.payment_id)
        if stated != listed:
            said, found = spoken(stated, snapshot.currency), spoken(listed, snapshot.currency)
            yield Finding(
                rule="refunded_amount_mismatch",
                subject_id=payment.payment_id,
                severity="warning",
                amount_at_stake=less(max(stated, listed), min(stated, listed)),
                currency=snapshot.currency,
                expected=f"refunded_amount {found}",
                actual=f"refunded_amount {said}",
                explanation=f"Mercado Pago says that {said} of payment {payment.payment_id} were refunded, "
                f"but the refunds that it lists come to {found}.",
            )


def payment_status_mismatch(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """A refunded payment whose processed refunds are below what was paid, or a processed one whose refunds reach it.

    Charged back payments are left out, and unpaid ones, whose refunds `refunds_exceed_paid` tells.
    """
    for payment in snapshot.payments:
        if payment.status not in ("processed", "refunded"):
            continue
        paid = paid_sum(payment)
        returned = processed_refunds(snapshot, payment.payment_id)
        says_all, gave_all = payment.status == "refunded", returned >= paid
        if says_all == gave_all or (gave_all and returned == 0):
            continue
        given, received = spoken(returned, snapshot.currency), spoken(paid, snapshot.currency)
        if says_all:
            expected, at_stake = "not refunded in full", less(paid, returned)
            explanation = (
                f"Payment {payment.payment_id} is marked as refunded, "
                f"but only {given} of the {received} paid were given back."
            )
        else:
            expected, at_stake = "refunded", returned
            explanation = (
                f"Payment {payment.payment_id} is still marked as {payment.status}, "
                f"although refunds of {given} give back all of the {received} paid."
            )
        yield Finding(
            rule="payment_status_mismatch",
            subject_id=payment.payment_id,
            severity="warning",
            amount_at_stake=at_stake,
            currency=snapshot.currency,
            expected=expected,
            actual=f"{payment.status}, with {given} of {received} refunded",
            explanation=explanation,
        )


def refund_and_chargeback(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """A payment is both refunded and charged back (in process or settled), together beyond what was paid."""
    if not snapshot.chargebacks:
        return
    for payment in snapshot.payments:
        paid = paid_sum(payment)
        returned = processed_refunds(snapshot, payment.payment_id)
        charged_back = total_of(
            chargeback.amount
            for chargeback in snapshot.chargebacks
            if chargeback.transaction_id == payment.payment_id and chargeback.status in CHARGEBACK_TAKES
        )
        both = total_of((returned, charged_back))
        if returned > 0 and charged_back > 0 and both > paid:
            received = spoken(paid, snapshot.currency)
            yield Finding(
                rule="refund_and_chargeback",
                subject_id=payment.payment_id,
                severity="critical",
                amount_at_stake=less(both, paid),
                currency=snapshot.currency,
                expected=f"refunds and chargebacks of at most {received}",
                actual=f"{spoken(returned, snapshot.currency)} refunded and "
                f"{spoken(charged_back, snapshot.currency)} charged back",
                explanation=f"The buyer of payment {payment.payment_id} gets money back twice: "
                f"{spoken(returned, snapshot.currency)} refunded and {spoken(charged_back, snapshot.currency)} "
                f"charged back, of {received} paid.",
            )
