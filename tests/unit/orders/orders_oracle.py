"""The contract's rules once more, naively: from all that was ever seen of an order, in fractions, with no memory kept.

Written to differ from the service in every way that it can: no fold, no peaks, no early exits; each question is asked
of the whole list of observations. It answers only which (rule, subject) are violated.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction

from service.orders.snapshot import OrderSnapshot, Payment

Observation = tuple[OrderSnapshot, datetime]
Violations = set[tuple[str, str]]

MOVED = ["processed", "refunded", "charged_back"]
WAITING = ["created", "at_terminal", "processing", "action_required"]
SHUT = ["canceled", "cancelled", "expired", "failed"]


def money(value: object) -> Fraction:
    return Fraction(0) if value is None else Fraction(str(value))


def received(payment: Payment) -> Fraction:
    if payment.status not in MOVED:
        return Fraction(0)
    return money(payment.amount if payment.paid_amount is None else payment.paid_amount)


def returned(order: OrderSnapshot, payment_id: str, *statuses: str) -> Fraction:
    result = Fraction(0)
    for refund in order.refunds:
        if refund.transaction_id == payment_id:
            for status in statuses:
                if refund.status == status:
                    result += money(refund.amount)
    return result


def given_back(order: OrderSnapshot, payment: Payment) -> bool:
    return returned(order, payment.payment_id, "processed") >= received(payment)


def ids_of(order: OrderSnapshot) -> list[str]:
    return (
        [payment.payment_id for payment in order.payments]
        + [refund.refund_id for refund in order.refunds]
        + [chargeback.chargeback_id for chargeback in order.chargebacks]
        + [cash_out.cash_out_id for cash_out in order.cash_outs]
    )


def expected_violations(seen: Sequence[Observation], now: datetime) -> Violations:
    """What is violated at `now` by the last observation of `seen`, which is in the order of sight."""
    order = seen[-1][0]
    return (
        payment_violations(order)
        | refund_violations(order, seen, now)
        | order_violations(order)
        | memory_violations(order, [snapshot for snapshot, _moment in seen])
    )


def payment_violations(order: OrderSnapshot) -> Violations:
    found: Violations = set()
    for payment in order.payments:
        me = payment.payment_id
        paid = received(payment)
        done = returned(order, me, "processed")
        taken = sum(
            (
                money(chargeback.amount)
                for chargeback in order.chargebacks
                if chargeback.transaction_id == me and chargeback.status != "reimbursed"
            ),
            Fraction(0),
        )
        if not returned(order, me, "processed", "processing") <= paid:
            found.add(("refunds_exceed_paid", me))
        if done != money(payment.refunded_amount):
            found.add(("refunded_amount_mismatch", me))
        if (payment.status == "refunded" and paid > done) or (payment.status == "processed" and paid <= done > 0):
            found.add(("payment_status_mismatch", me))
        if min(done, taken) > 0 and done + taken - paid > 0:
            found.add(("refund_and_chargeback", me))
    return found


def refund_violations(order: OrderSnapshot, seen: Sequence[Observation], now: datetime) -> Violations:
    found: Violations = set()
    targets = [payment.payment_id for payment in order.payments] + [cash.cash_out_id for cash in order.cash_outs]
    below = list(order.refunds)
    while below:
        refund = below.pop(0)
        me = refund.refund_id
        if targets.count(refund.transaction_id or "") == 0:
            found.add(("refund_without_payment", me))
        if refund.status == "failed":
            instead = [
                money(other.amount)
                for other in below
                if other.transaction_id == refund.transaction_id and other.status in ("processed", "processing")
            ]
            if instead == [] or sum(instead) < money(refund.amount):
                found.add(("refund_failed", me))
        if refund.status == "processing":
            sights = [moment for snapshot, moment in seen if me in ids_of(snapshot)]
            if now > sights[0] + timedelta(days=1):
                found.add(("refund_stuck", me))
    return found


def order_violations(order: OrderSnapshot) -> Violations:
    me = order.order_id
    found: Violations = set()
    paid = [payment for payment in order.payments if payment.status in MOVED]
    if order.status == "refunded" and not all(given_back(order, payment) for payment in paid):
        found.add(("order_status_mismatch", me))
    if order.status == "processed" and paid == []:
        found.add(("order_status_mismatch", me))
    if order.total_amount is not None and paid and all(payment.amount is not None for payment in paid):
        goods = sum((money(payment.amount) for payment in paid), Fraction(0))
        cash = sum((money(cash_out.amount) for cash_out in order.cash_outs), Fraction(0))
        if money(order.total_amount) not in (goods, goods + cash):
            found.add(("paid_total_mismatch", me))
    return found


def memory_violations(order: OrderSnapshot, snapshots: Sequence[OrderSnapshot]) -> Violations:
    me = order.order_id
    found: Violations = set()
    shut = [place for place, snapshot in enumerate(snapshots) if snapshot.status in SHUT]
    ended = [snapshot for snapshot in snapshots if snapshot.status in [*SHUT, "refunded"]]
    paid = [payment for payment in order.payments if payment.status in MOVED]
    if shut:
        in_time = [
            payment.payment_id
            for snapshot in snapshots[: shut[0]]
            for payment in snapshot.payments
            if payment.status in MOVED
        ]
        if [payment for payment in paid if payment.payment_id not in in_time and not given_back(order, payment)]:
            found.add(("paid_after_close", me))
    for snapshot in snapshots:
        for gone in set(ids_of(snapshot)) - set(ids_of(order)):
            found.add(("record_vanished", gone))
        for before in snapshot.payments:
            for payment in order.payments:
                same = before.payment_id == payment.payment_id
                if same and money(before.refunded_amount) > money(payment.refunded_amount):
                    found.add(("went_backwards", me))
    if ended and order.status in WAITING and not paid:
        found.add(("went_backwards", me))
    currencies = [snapshot.currency for snapshot in snapshots if snapshot.currency is not None]
    if order.currency is not None and order.currency != currencies[0]:
        found.add(("currency_changed", me))
    return found
