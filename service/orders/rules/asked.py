"""Rules that compare an order with what was asked of it here: the commands, and the account's refund policy.

The subject is the command's id; of `refund_unexplained` it is the refund's. `unknown_outcome` is about a command alone,
which need not belong to a stored order yet: whoever executes commands evaluates it, `evaluate` does not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from service.orders.asked import MAYBE_EFFECTIVE_STATUSES, AskedCommand, explained_refunds
from service.orders.history import History
from service.orders.lifecycle import (
    REFUND_FAILED,
    REFUND_PROCESSED,
    REFUND_PROCESSING,
    not_refunded,
    paid_sum,
    processed_refunds,
)
from service.orders.money import ZERO, less, total_of
from service.orders.rules.finding import Finding, spoken
from service.orders.snapshot import OrderSnapshot

MISSING_AFTER = timedelta(hours=1)
UNKNOWN_AFTER = timedelta(minutes=15)
UNKNOWN_OUTCOME = "unknown_outcome"


@dataclass(frozen=True, slots=True)
class Asked:
    """All commands of one order, and since when every refund of its account is to be asked for here (None: never)."""

    commands: Sequence[AskedCommand] = ()
    refunds_only_here_since: datetime | None = None


def refund_unexplained(snapshot: OrderSnapshot, history: History, now: datetime, asked: Asked) -> Iterator[Finding]:
    """A processing or processed refund, first seen since the policy holds, that no command explains."""
    since = asked.refunds_only_here_since
    if since is None or not snapshot.refunds:
        return
    explained = explained_refunds(snapshot.refunds, asked.commands, history.refund_first_seen)
    for refund in snapshot.refunds:
        if refund.status not in (REFUND_PROCESSED, REFUND_PROCESSING) or refund.refund_id in explained:
            continue
        if history.refund_first_seen.get(refund.refund_id, now) < since:
            continue
        yield Finding(
            rule="refund_unexplained",
            subject_id=refund.refund_id,
            severity="critical",
            amount_at_stake=refund.amount,
            currency=snapshot.currency,
            expected="a refund that was asked for here",
            actual=f"a {refund.status} refund that nobody here asked for",
            explanation=f"Refund {refund.refund_id} of {spoken(refund.amount, snapshot.currency)} was not asked for "
            "here, although all refunds of this account are to be: somebody gave money back in another way.",
        )


def refund_missing(snapshot: OrderSnapshot, history: History, now: datetime, asked: Asked) -> Iterator[Finding]:
    """A refund that the provider accepted is not in the order more than 1 h later."""
    for command, since in _absent_refunds(snapshot, history, asked.commands):
        if now - since <= MISSING_AFTER:
            continue
        shown = [refund for refund in snapshot.refunds if refund.refund_id in command.refund_ids]
        wanted = total_of(command.reserved.values()) if command.reserved else command.amount
        absent = wanted if wanted is None else max(ZERO, less(wanted, total_of(refund.amount for refund in shown)))
        missing = ", ".join(sorted(set(command.refund_ids) - {refund.refund_id for refund in shown}))
        currency = snapshot.currency or command.currency
        yield Finding(
            rule="refund_missing",
            subject_id=command.command_id,
            severity="critical",
            amount_at_stake=absent,
            currency=currency,
            expected=f"refund {missing}" if missing else f"a refund of {spoken(wanted, currency)}",
            actual=f"not in the order since {since.isoformat()}",
            explanation=f"Mercado Pago accepted a refund of {spoken(wanted, currency)} more than an hour ago and does "
            "not show it in the order, so the buyer may not get this money back.",
        )


def next_refund_missing(
    snapshot: OrderSnapshot, history: History, now: datetime, commands: Sequence[AskedCommand]
) -> datetime | None:
    """The next moment after `now` at which `refund_missing` opens with no new snapshot: the first beyond the hour."""
    moments = (
        since + MISSING_AFTER + timedelta.resolution for _, since in _absent_refunds(snapshot, history, commands)
    )
    return min((moment for moment in moments if moment > now), default=None)


def _absent_refunds(
    snapshot: OrderSnapshot, history: History, commands: Sequence[AskedCommand]
) -> Iterator[tuple[AskedCommand, datetime]]:
    """Refund commands that were accepted and are not wholly shown, each with the moment from which it is waited for."""
    accepted = [command for command in commands if command.kind == "refund" and command.status in ("accepted", "done")]
    if not accepted:
        return
    shown = {refund.refund_id for refund in snapshot.refunds}
    owners = list(explained_refunds(snapshot.refunds, commands, history.refund_first_seen).values())
    for command in accepted:
        since = command.accepted_at or command.settled_at
        if command.refund_ids:
            absent = not shown.issuperset(command.refund_ids)
        else:
            absent = owners.count(command.command_id) < max(1, len(command.reserved))
        if absent and since is not None:
            yield command, since


def amount_differs_from_request(
    snapshot: OrderSnapshot, _history: History, _now: datetime, asked: Asked
) -> Iterator[Finding]:
    """The order is for another amount than its creation asked for, or a refund than its command reserved.

    An order without `total_amount` (Point) is for the sum of its payments' amounts. Failed refunds are left out:
    `refund_failed` tells of them.
    """
    for command in asked.commands:
        if command.kind == "create" and command.status in ("done", "refused"):
            compared = [("an order", command.amount, _order_amount(snapshot))]
        elif command.kind == "refund":
            compared = _refunds_compared(snapshot, command)
        else:
            continue
        differing = [
            (what, wanted, found)
            for what, wanted, found in compared
            if wanted is not None and found is not None and wanted != found
        ]
        if not differing:
            continue
        currency = snapshot.currency or command.currency
        expected = " and ".join(f"{what} of {spoken(wanted, currency)}" for what, wanted, _ in differing)
        actual = " and ".join(f"{what} of {spoken(found, currency)}" for what, _, found in differing)
        yield Finding(
            rule="amount_differs_from_request",
            subject_id=command.command_id,
            severity="critical",
            amount_at_stake=total_of(less(max(wanted, found), min(wanted, found)) for _, wanted, found in differing),
            currency=currency,
            expected=expected,
            actual=actual,
            explanation=f"What was asked for here is {expected}, but Mercado Pago made {actual}.",
        )


def _order_amount(snapshot: OrderSnapshot) -> Decimal | None:
    """None where the order says nothing of its amount."""
    if snapshot.total_amount is not None:
        return snapshot.total_amount
    amounts = [payment.amount for payment in snapshot.payments]
    return total_of(amounts) if amounts and None not in amounts else None


def _refunds_compared(
    snapshot: OrderSnapshot, command: AskedCommand
) -> list[tuple[str, Decimal | None, Decimal | None]]:
    """What was reserved and what the command's own refunds come to, of each payment of which one is shown.

    Payments without one are left out: theirs may be shown later.
    """
    if not command.refund_ids or not command.reserved:
        return []
    own: dict[str | None, list[Decimal | None]] = {}
    for refund in snapshot.refunds:
        if refund.refund_id in command.refund_ids and refund.status != REFUND_FAILED:
            own.setdefault(refund.transaction_id, []).append(refund.amount)
    return [
        (
            f"a refund (payment {payment_id or 'not named'})",
            command.reserved.get(payment_id or "", ZERO),
            None if None in amounts else total_of(amounts),
        )
        for payment_id, amounts in own.items()
    ]


def paid_after_cancel_asked(
    snapshot: OrderSnapshot, _history: History, _now: datetime, asked: Asked
) -> Iterator[Finding]:
    """A cancellation that may have been sent, and was not refused, of an order that keeps money of the buyer."""
    cancellations = [
        command for command in asked.commands if command.kind == "cancel" and command.status in MAYBE_EFFECTIVE_STATUSES
    ]
    if not cancellations:
        return
    kept = total_of(
        less(paid_sum(payment), processed_refunds(snapshot, payment.payment_id))
        for payment in snapshot.payments
        if not_refunded(snapshot, payment)
    )
    if kept == 0:
        return
    for command in cancellations:
        money = spoken(kept, snapshot.currency)
        yield Finding(
            rule="paid_after_cancel_asked",
            subject_id=command.command_id,
            severity="critical",
            amount_at_stake=kept,
            currency=snapshot.currency,
            expected="no money after the cancellation",
            actual=f"{money} paid",
            explanation=f"The order was to be canceled, and the buyer has paid {money} of it: hand over the goods or "
            "give the money back.",
        )


def unknown_outcome(command: AskedCommand, now: datetime) -> Finding | None:
    """What became of a command is still unknown more than 15 min after it may first have been sent."""
    since = _unknown_since(command)
    if since is None or now - since <= UNKNOWN_AFTER:
        return None
    amount = total_of(command.reserved.values()) if command.reserved else command.amount
    what = f"{command.kind} of {spoken(amount, command.currency)}" if amount is not None else command.kind
    return Finding(
        rule=UNKNOWN_OUTCOME,
        subject_id=command.command_id,
        severity="warning",
        amount_at_stake=amount,
        currency=command.currency,
        expected="an outcome within 15 min",
        actual=f"unknown since {since.isoformat()}",
        explanation=f"Nobody knows yet whether Mercado Pago did what was asked ({what}), so look at the order before "
        "asking for the same again.",
    )


def next_unknown_outcome(command: AskedCommand, now: datetime) -> datetime | None:
    """The next moment after `now` at which `unknown_outcome` opens by time alone; None if it does not."""
    since = _unknown_since(command)
    moment = None if since is None else since + UNKNOWN_AFTER + timedelta.resolution
    return moment if moment is not None and moment > now else None


def _unknown_since(command: AskedCommand) -> datetime | None:
    return command.maybe_sent_at if command.status in ("unknown", "sending") else None
