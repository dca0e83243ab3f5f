"""Rules about the order as a whole: its status and total against its payments, and what it was seen to be before."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from service.orders.history import History
from service.orders.lifecycle import is_open, is_paid, not_refunded, paid_sum, processed_refunds
from service.orders.money import ZERO, less, plain, total_of
from service.orders.rules.finding import Finding, spoken
from service.orders.snapshot import OrderSnapshot


def order_status_mismatch(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """The order is `refunded` while a paid payment is not fully refunded, or `processed` with no paid payment."""
    if snapshot.status == "refunded":
        kept = [payment for payment in snapshot.payments if not_refunded(snapshot, payment)]
        if not kept:
            return
        at_stake: Decimal | None = total_of(
            less(paid_sum(payment), processed_refunds(snapshot, payment.payment_id)) for payment in kept
        )
        left = spoken(at_stake, snapshot.currency)
        expected, actual = "every paid payment refunded in full", f"{left} not refunded"
        explanation = f"The order is marked as refunded, but {left} that the buyer paid were not given back."
    elif snapshot.status == "processed" and not any(map(is_paid, snapshot.payments)):
        at_stake = snapshot.total_amount
        expected, actual = "a paid payment", "no paid payment"
        explanation = (
            "The order"
            + (f" of {spoken(at_stake, snapshot.currency)}" if at_stake is not None else "")
            + " is marked as paid, but none of its payments is."
        )
    else:
        return
    yield Finding(
        rule="order_status_mismatch",
        subject_id=snapshot.order_id,
        severity="critical" if snapshot.status == "processed" else "warning",
        amount_at_stake=at_stake,
        currency=snapshot.currency,
        expected=expected,
        actual=f"status {snapshot.status} with {actual}",
        explanation=explanation,
    )


def paid_total_mismatch(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """The paid payments' `amount` does not sum to `total_amount`, with or without the cash-outs.

    `amount`, not `paid_amount`, is compared, so discounts and tips play no part. Says nothing of an order without
    `total_amount` or a paid payment, or with a paid payment whose `amount` is not given.
    """
    if snapshot.total_amount is None:
        return
    amounts = [payment.amount for payment in snapshot.payments if is_paid(payment)]
    if not amounts or any(amount is None for amount in amounts):
        return
    paid = total_of(amounts)
    if paid == snapshot.total_amount:
        return
    sums = [paid]
    if snapshot.cash_outs:
        sums.append(total_of((paid, *(cash_out.amount for cash_out in snapshot.cash_outs))))
    if snapshot.total_amount in sums:
        return
    difference = min(less(snapshot.total_amount, amount).copy_abs() for amount in sums)
    total, found = spoken(snapshot.total_amount, snapshot.currency), spoken(paid, snapshot.currency)
    yield Finding(
        rule="paid_total_mismatch",
        subject_id=snapshot.order_id,
        severity="critical",
        amount_at_stake=difference,
        currency=snapshot.currency,
        expected=f"payments of {total}",
        actual=f"payments of {found}",
        explanation=f"The order is for {total}, but its paid payments are for {found}.",
    )


def paid_after_close(snapshot: OrderSnapshot, history: History, _now: datetime) -> Iterator[Finding]:
    """A payment is paid, and not given back in full, that was not seen paid before the order was first seen closed."""
    if history.closed_status is None:
        return
    late = [
        payment
        for payment in snapshot.payments
        if payment.payment_id not in history.paid_before_close and not_refunded(snapshot, payment)
    ]
    if not late:
        return
    at_stake = total_of(less(paid_sum(payment), processed_refunds(snapshot, payment.payment_id)) for payment in late)
    money = spoken(at_stake, snapshot.currency)
    yield Finding(
        rule="paid_after_close",
        subject_id=snapshot.order_id,
        severity="critical",
        amount_at_stake=at_stake,
        currency=snapshot.currency,
        expected=f"no money after {history.closed_status}",
        actual=f"{money} in {', '.join(payment.payment_id for payment in late)}",
        explanation=f"The buyer's {money} arrived on an order that was already {history.closed_status}: "
        "hand over the goods or give the money back.",
    )


def record_vanished(snapshot: OrderSnapshot, history: History, _now: datetime) -> Iterator[Finding]:
    """A payment, refund, chargeback or cash-out that was seen before is not there any more."""
    present = snapshot.record_ids
    for record_id, record in history.records.items():
        if record_id not in present:
            name, currency = record.kind.replace("_", "-"), snapshot.currency or history.first_currency
            yield Finding(
                rule="record_vanished",
                subject_id=record_id,
                severity="warning",
                amount_at_stake=record.amount,
                currency=currency,
                expected=f"{name} {record_id}",
                actual="not in the order any more",
                explanation=f"The {name} {record_id} of {spoken(record.amount, currency)} was part of this "
                "order before, and Mercado Pago does not show it any more.",
            )


def went_backwards(snapshot: OrderSnapshot, history: History, _now: datetime) -> Iterator[Finding]:
    """`refunded_amount` of a payment is below its peak, or an ended order waits for money again with none paid."""
    expected, actual, reasons = [], [], []
    falls = []
    for payment in snapshot.payments:
        peak = history.refunded_peaks.get(payment.payment_id, ZERO)
        stated = payment.refunded_amount if payment.refunded_amount is not None else ZERO
        if stated < peak:
            falls.append(less(peak, stated))
            expected.append(f"{payment.payment_id} refunded by {plain(peak)}")
            actual.append(f"{payment.payment_id} refunded by {plain(stated)}")
            reasons.append(
                f"the refunded amount of payment {payment.payment_id} fell from "
                f"{spoken(peak, snapshot.currency)} to {spoken(stated, snapshot.currency)}"
            )
    if (
        history.terminal_status is not None
        and is_open(snapshot.status)
        and not any(is_paid(payment) for payment in snapshot.payments)
    ):
        expected.append(f"status {history.terminal_status}")
        actual.append(f"status {snapshot.status}")
        reasons.append(f"the order was {history.terminal_status} and is {snapshot.status} again")
    if reasons:
        yield Finding(
            rule="went_backwards",
            subject_id=snapshot.order_id,
            severity="warning",
            amount_at_stake=total_of(falls) if falls else None,
            currency=snapshot.currency,
            expected="; ".join(expected),
            actual="; ".join(actual),
            explanation=f"Mercado Pago took something back that it had said before: {' and '.join(reasons)}.",
        )


def currency_changed(snapshot: OrderSnapshot, history: History, _now: datetime) -> Iterator[Finding]:
    """The order's currency is known and is not the first one known; an unknown one is no change."""
    if snapshot.currency and history.first_currency and snapshot.currency != history.first_currency:
        yield Finding(
            rule="currency_changed",
            subject_id=snapshot.order_id,
            severity="critical",
            amount_at_stake=snapshot.total_amount,
            currency=snapshot.currency,
            expected=history.first_currency,
            actual=snapshot.currency,
            explanation=f"The order was in {history.first_currency} and is now in {snapshot.currency}"
            + (f", for {plain(snapshot.total_amount)}." if snapshot.total_amount is not None else "."),
        )
