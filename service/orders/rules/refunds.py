"""Rules about one refund: whose money it is, whether it ends, and whether the buyer gets it."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from service.orders.history import History
from service.orders.lifecycle import REFUND_FAILED, REFUND_PROCESSED, REFUND_PROCESSING
from service.orders.money import ZERO, total_of
from service.orders.rules.finding import Finding, spoken
from service.orders.snapshot import OrderSnapshot, Refund

STUCK_AFTER = timedelta(hours=24)


def refund_without_payment(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """A refund's `transaction_id` is no payment or cash-out of the order, or is absent."""
    if not snapshot.refunds:
        return
    transactions = {payment.payment_id for payment in snapshot.payments}
    transactions.update(cash_out.cash_out_id for cash_out in snapshot.cash_outs)
    for refund in snapshot.refunds:
        if refund.transaction_id not in transactions:
            named = refund.transaction_id or "none"
            yield Finding(
                rule="refund_without_payment",
                subject_id=refund.refund_id,
                severity="critical",
                amount_at_stake=refund.amount,
                currency=snapshot.currency,
                expected="a payment or cash-out of this order",
                actual=f"transaction_id {named}",
                explanation=f"Refund {refund.refund_id} of {spoken(refund.amount, snapshot.currency)} belongs to no "
                f"payment of this order (it names {named}).",
            )


def refund_stuck(snapshot: OrderSnapshot, history: History, now: datetime) -> Iterator[Finding]:
    """A refund is still processing more than 24 h after it was first seen."""
    for refund in snapshot.refunds:
        if refund.status != REFUND_PROCESSING:
            continue
        since = history.refund_first_seen.get(refund.refund_id)
        if since is not None and now - since > STUCK_AFTER:
            yield Finding(
                rule="refund_stuck",
                subject_id=refund.refund_id,
                severity="warning",
                amount_at_stake=refund.amount,
                currency=snapshot.currency,
                expected="processed or failed within 24 h",
                actual=f"processing since {since.isoformat()}",
                explanation=f"Refund {refund.refund_id} of {spoken(refund.amount, snapshot.currency)} has been "
                "processing for more than 24 hours, so the buyer may still be waiting for the money.",
            )


def next_refund_stuck(snapshot: OrderSnapshot, history: History, now: datetime) -> datetime | None:
    """The next moment after `now` at which `refund_stuck` opens with no new snapshot: the first beyond the 24 h."""
    moments = (
        history.refund_first_seen[refund.refund_id] + STUCK_AFTER + timedelta.resolution
        for refund in snapshot.refunds
        if refund.status == REFUND_PROCESSING and refund.refund_id in history.refund_first_seen
    )
    return min((moment for moment in moments if moment > now), default=None)


def refund_failed(snapshot: OrderSnapshot, _history: History, _now: datetime) -> Iterator[Finding]:
    """A refund failed, and those of the same payment further down the list do not reach its amount."""
    for place, refund in enumerate(snapshot.refunds):
        if refund.status != REFUND_FAILED:
            continue
        later = [other for other in snapshot.refunds[place + 1 :] if _replaces(other, refund)]
        covered = total_of(other.amount for other in later)
        # A failed refund of no known amount still needs one that takes its place.
        if not later or covered < (refund.amount if refund.amount is not None else ZERO):
            failed = spoken(refund.amount, snapshot.currency)
            yield Finding(
                rule="refund_failed",
                subject_id=refund.refund_id,
                severity="critical",
                amount_at_stake=refund.amount,
                currency=snapshot.currency,
                expected=f"a later refund of {failed}",
                actual=f"later refunds of {spoken(covered, snapshot.currency)}",
                explanation=f"Refund {refund.refund_id} of {failed} failed and no later refund makes up for it, "
                "so the buyer has not got this money back.",
            )


def _replaces(other: Refund, failed: Refund) -> bool:
    return other.transaction_id == failed.transaction_id and other.status in (REFUND_PROCESSED, REFUND_PROCESSING)
