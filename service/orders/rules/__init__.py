"""The reconciliation rules: each is violated or not by what an order is now, and by its history where it says so.

A rule is a function from (snapshot, history, now) to its findings, one for each subject that violates it; `history`
is already folded with `snapshot`. The rules of `asked` compare the order with what was asked of it here, too. Only
`duplicate_sale` compares orders with each other: see `duplicates`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from service.orders.asked import AskedCommand
from service.orders.history import History
from service.orders.rules import asked, order, payments, refunds
from service.orders.rules.asked import UNKNOWN_OUTCOME, Asked
from service.orders.rules.finding import Finding, Severity
from service.orders.snapshot import OrderSnapshot

__all__ = [
    "DUPLICATE_SALE",
    "JUDGED_ELSEWHERE",
    "RULES",
    "UNKNOWN_OUTCOME",
    "AskedRule",
    "Finding",
    "Rule",
    "Severity",
    "evaluate",
    "rules_due_at",
]

Rule = Callable[[OrderSnapshot, History, datetime], Iterable[Finding]]
AskedRule = Callable[[OrderSnapshot, History, datetime, Asked], Iterable[Finding]]

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
ASKED_RULE_FUNCTIONS: Mapping[str, AskedRule] = MappingProxyType(
    {
        "refund_unexplained": asked.refund_unexplained,
        "refund_missing": asked.refund_missing,
        "amount_differs_from_request": asked.amount_differs_from_request,
        "paid_after_cancel_asked": asked.paid_after_cancel_asked,
    }
)
DUPLICATE_SALE = "duplicate_sale"

JUDGED_ELSEWHERE = frozenset({DUPLICATE_SALE, UNKNOWN_OUTCOME})
"""Rules that `evaluate` says nothing of, so that its silence resolves none of their discrepancies."""

RULES: tuple[str, ...] = (*RULE_FUNCTIONS, *ASKED_RULE_FUNCTIONS, DUPLICATE_SALE, UNKNOWN_OUTCOME)
"""Every rule's code: the value of `discrepancies.rule` and the metrics' label."""


def evaluate(
    snapshot: OrderSnapshot,
    history: History,
    now: datetime,
    commands: Sequence[AskedCommand] = (),
    refunds_only_here_since: datetime | None = None,
) -> tuple[Finding, ...]:
    """What is wrong with one order at `now`: the findings of every rule but those of `JUDGED_ELSEWHERE`.

    `history` is already folded with `snapshot`; `commands` are all commands of the order, in any order;
    `refunds_only_here_since` is its account's policy. Deterministic, in the order of `RULES` and of the provider's
    lists; at most one finding for a rule and a subject.
    """
    found = [finding for rule in RULE_FUNCTIONS.values() for finding in rule(snapshot, history, now)]
    if commands or refunds_only_here_since is not None:
        in_order = sorted(commands, key=lambda command: (command.asked_at, command.command_id))
        request = Asked(in_order, refunds_only_here_since)
        for asked_rule in ASKED_RULE_FUNCTIONS.values():
            found.extend(asked_rule(snapshot, history, now, request))
    return tuple(found)


def rules_due_at(
    snapshot: OrderSnapshot, history: History, now: datetime, commands: Sequence[AskedCommand] = ()
) -> datetime | None:
    """The next moment after `now` at which `evaluate` can change with no new snapshot or command; None if it cannot.

    Evaluating at exactly this moment gives the changed answer.
    """
    moments = [refunds.next_refund_stuck(snapshot, history, now)]
    if commands:
        moments.append(asked.next_refund_missing(snapshot, history, now, commands))
    return min((moment for moment in moments if moment is not None), default=None)
