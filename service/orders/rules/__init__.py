"""The reconciliation rules: each is violated or not by what an order is now, and by its history where it says so.

A rule is a function from (snapshot, history, now) to its findings, one for each subject that violates it; `history`
is already folded with `snapshot`. Only `duplicate_sale` compares orders with each other: see `duplicates`.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType

from service.orders.history import History
from service.orders.rules import order, payments, refunds
from service.orders.rules.finding import Finding, Severity
from service.orders.snapshot import OrderSnapshot

__all__ = ["DUPLICATE_SALE", "RULES", "Finding", "Rule", "Severity", "evaluate", "rules_due_at"]

Rule = Callable[[OrderSnapshot, History, datetime], Iterable[Finding]]

RULE_FUNCTIONS: Mapping[str, Rule] = MappingProxyType(
    {
        "refund_without_payment": refunds.refund_without_payment,
        "refunds_exceed_paid": payments.refunds_exceed_paid,
        "refunded_amount_mismatch": payments.refunded_amount_mismatch,
        "payment_status_mismatch": payments.payment_status_mismatch,
        "order_status_mismatch": order.order_status_mismatch,
        "paid_total_mismatch": order.paid_total_mismatch,
        "paid_after_close": order.paid_after_close,
        "refund_stuck": refunds.refund_stuck,
        "refund_failed": refunds.refund_failed,
        "refund_and_chargeback": payments.refund_and_chargeback,
        "record_vanished": order.record_vanished,
        "went_backwards": order.went_backwards,
        "currency_changed": order.currency_changed,
    }
)
DUPLICATE_SALE = "duplicate_sale"

RULES: tuple[str, ...] = (*RULE_FUNCTIONS, DUPLICATE_SALE)
"""Every rule's code: the value of `discrepancies.rule` and the metrics' label."""


def evaluate(snapshot: OrderSnapshot, history: History, now: datetime) -> tuple[Finding, ...]:
    """What is wrong with one order at `now`: the findings of every rule but `duplicate_sale`.

    `history` is already folded with `snapshot`. Deterministic, in the order of `RULES` and of the provider's lists;
    at most one finding for a rule and a subject.
    """
    return tuple(finding for rule in RULE_FUNCTIONS.values() for finding in rule(snapshot, history, now))


def rules_due_at(snapshot: OrderSnapshot, history: History, now: datetime) -> datetime | None:
    """The next moment after `now` at which `evaluate` can change with no new snapshot; None if it cannot.

    Evaluating at exactly this moment gives the changed answer.
    """
    return refunds.next_refund_stuck(snapshot, history, now)
