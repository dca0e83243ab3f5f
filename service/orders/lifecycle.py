"""The lifecycle of orders and payments as a table, and the money totals that follow from it.

Orders and payments share their words (fact sheet of the Orders API, §4). Statuses are free text: one that is not in
the table is kept as it came and belongs to no stage. Only a status says that money moved: `paid_amount` is filled on
unpaid, failed and expired payments too, and is no evidence (fact sheet, §5).
"""

from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from service.orders.money import ZERO, total_of
from service.orders.snapshot import OrderSnapshot, Payment


class Stage(Enum):
    """Where a status stands: waiting for money, ended without it, or money has moved."""

    OPEN = "open"
    CLOSED = "closed"
    PAID = "paid"


class Status(NamedTuple):
    """A status that we know. `terminal`: an order that reached it does not return to an open stage by itself."""

    name: str
    stage: Stage
    terminal: bool


LIFECYCLE = (
    Status("created", Stage.OPEN, terminal=False),
    Status("at_terminal", Stage.OPEN, terminal=False),
    Status("processing", Stage.OPEN, terminal=False),
    Status("action_required", Stage.OPEN, terminal=False),
    Status("canceled", Stage.CLOSED, terminal=True),
    Status("cancelled", Stage.CLOSED, terminal=True),  # the spelling of older pages
    Status("expired", Stage.CLOSED, terminal=True),
    Status("failed", Stage.CLOSED, terminal=True),
    Status("processed", Stage.PAID, terminal=False),
    Status("refunded", Stage.PAID, terminal=True),
    Status("charged_back", Stage.PAID, terminal=False),  # a reimbursed chargeback returns to `processed`
)

KNOWN_STATUSES = frozenset(status.name for status in LIFECYCLE)
OPEN_STATUSES = frozenset(status.name for status in LIFECYCLE if status.stage is Stage.OPEN)
CLOSED_STATUSES = frozenset(status.name for status in LIFECYCLE if status.stage is Stage.CLOSED)
PAID_STATUSES = frozenset(status.name for status in LIFECYCLE if status.stage is Stage.PAID)
TERMINAL_STATUSES = frozenset(status.name for status in LIFECYCLE if status.terminal)

REFUND_PROCESSED = "processed"
REFUND_PROCESSING = "processing"
REFUND_FAILED = "failed"
# `reimbursed` chargebacks gave the money back to the seller.
CHARGEBACK_TAKES = frozenset({"in_process", "settled"})


def canonical_status(status: str | None) -> str | None:
    """The one spelling of a status: `cancelled` is `canceled`; everything else as it came."""
    return "canceled" if status == "cancelled" else status


def is_open(status: str | None) -> bool:
    """Waiting for money: created, at_terminal, processing, action_required."""
    return status in OPEN_STATUSES


def is_closed(status: str | None) -> bool:
    """Ended without money: canceled, expired, failed."""
    return status in CLOSED_STATUSES


def is_terminal(status: str | None) -> bool:
    """Ended for good: canceled, expired, failed, refunded."""
    return status in TERMINAL_STATUSES


def is_paid(payment: Payment) -> bool:
    """Its status says that money was accredited, whatever became of it since."""
    return payment.status in PAID_STATUSES


def paid_sum(payment: Payment) -> Decimal:
    """What the buyer paid: 0 unless paid; `paid_amount`, else `amount`, else 0."""
    if payment.status not in PAID_STATUSES:
        return ZERO
    if payment.paid_amount is not None:
        return payment.paid_amount
    return payment.amount if payment.amount is not None else ZERO


def processed_refunds(snapshot: OrderSnapshot, transaction_id: str) -> Decimal:
    """What was given back of one payment or cash-out; refunds without an amount count as 0."""
    if not snapshot.refunds:
        return ZERO
    return total_of(
        refund.amount
        for refund in snapshot.refunds
        if refund.transaction_id == transaction_id and refund.status == REFUND_PROCESSED
    )


def not_refunded(snapshot: OrderSnapshot, payment: Payment) -> bool:
    """Some of what the buyer paid is not given back; False for a payment that is not paid."""
    paid = paid_sum(payment)
    return paid > 0 and processed_refunds(snapshot, payment.payment_id) < paid


def paid_total(snapshot: OrderSnapshot) -> Decimal:
    """What buyers paid for the order, before any refund."""
    return total_of(paid_sum(payment) for payment in snapshot.payments)


def refunded_total(snapshot: OrderSnapshot) -> Decimal:
    """All processed refunds of the order, those of cash-outs and of unknown payments included."""
    return total_of(refund.amount for refund in snapshot.refunds if refund.status == REFUND_PROCESSED)


def is_sale(snapshot: OrderSnapshot) -> bool:
    """Some payment is paid, and the processed refunds are below what was paid. A charged back order is a sale.

    Refunds of a cash-out do not count against the sale: the cash was not paid for the goods.
    """
    paid = paid_total(snapshot)
    if paid == 0:
        return False
    cash_outs = {cash_out.cash_out_id for cash_out in snapshot.cash_outs}
    returned = total_of(
        refund.amount
        for refund in snapshot.refunds
        if refund.status == REFUND_PROCESSED and refund.transaction_id not in cash_outs
    )
    return returned < paid
