"""The contract's rules once more, naively: from all that was ever seen of an order, in fractions, with no memory kept.

Written to differ from the service in every way that it can: no fold, no peaks, no early exits; each question is asked
of the whole list of observations. It answers only which (rule, subject) are violated.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction

from service.orders.asked import AskedCommand
from service.orders.snapshot import OrderSnapshot, Payment, Refund

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


def expected_violations(
    seen: Sequence[Observation],
    now: datetime,
    commands: Sequence[AskedCommand] = (),
    only_here_since: datetime | None = None,
) -> Violations:
    """What is violated at `now` by the last observation of `seen`, which is in the order of sight."""
    order = seen[-1][0]
    return (
        payment_violations(order)
        | refund_violations(order, seen, now)
        | order_violations(order)
        | memory_violations(order, [snapshot for snapshot, _moment in seen])
        | request_violations(order, seen, now, commands)
        | strangers_refunds(order, seen, commands, only_here_since)
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


MIGHT_HAVE_HAPPENED = ["sending", "unknown", "accepted", "done"]


def first_sight(seen: Sequence[Observation], refund_id: str) -> datetime:
    return min(moment for snapshot, moment in seen if refund_id in ids_of(snapshot))


def by_age(commands: Sequence[AskedCommand]) -> list[AskedCommand]:
    return sorted(commands, key=lambda command: (command.asked_at, command.command_id))


def makers(order: OrderSnapshot, seen: Sequence[Observation], commands: Sequence[AskedCommand]) -> dict[str, str]:
    """Which command made which refund, as far as anybody can tell: tickets are handed in, one a refund."""
    made: dict[str, str] = {}
    for refund in order.refunds:
        named = [command for command in by_age(commands) if refund.refund_id in command.refund_ids]
        if named:
            made[refund.refund_id] = named[0].command_id
    tickets: list[tuple[str, str, Fraction]] = []
    for command in by_age(commands):
        if command.kind != "refund" or command.status not in MIGHT_HAVE_HAPPENED:
            continue
        for payment_id in sorted(command.reserved):
            mine = [r for r in order.refunds if r.refund_id in command.refund_ids and r.transaction_id == payment_id]
            if not mine:
                tickets.append((command.command_id, payment_id, money(command.reserved[payment_id])))
    used: dict[str, int] = {command.command_id: len(command.refund_ids) for command in commands}
    size = {command.command_id: len(command.reserved) for command in commands}
    open_refunds: list[tuple[float, int, Refund]] = []
    for place, refund in enumerate(order.refunds):
        if refund.refund_id not in made and refund.status in ("processed", "processing"):
            open_refunds.append((-first_sight(seen, refund.refund_id).timestamp(), place, refund))
    for _age, _place, refund in sorted(open_refunds, key=lambda one: one[:2]):
        for ticket in tickets:
            fits = refund.amount is not None and ticket[1:] == (refund.transaction_id, money(refund.amount))
            if fits and used[ticket[0]] < size[ticket[0]]:
                made[refund.refund_id] = ticket[0]
                used[ticket[0]] += 1
                tickets.remove(ticket)
                break
    return made


def strangers_refunds(
    order: OrderSnapshot, seen: Sequence[Observation], commands: Sequence[AskedCommand], since: datetime | None
) -> Violations:
    made = makers(order, seen, commands)
    return {
        ("refund_unexplained", refund.refund_id)
        for refund in order.refunds
        if since is not None
        and refund.status in ("processed", "processing")
        and refund.refund_id not in made
        and not first_sight(seen, refund.refund_id) < since
    }


def request_violations(
    order: OrderSnapshot, seen: Sequence[Observation], now: datetime, commands: Sequence[AskedCommand]
) -> Violations:
    found: Violations = set()
    shown = [refund.refund_id for refund in order.refunds]
    made = list(makers(order, seen, commands).values())
    stated = order.total_amount
    if stated is None and order.payments and all(payment.amount is not None for payment in order.payments):
        stated = sum(payment.amount for payment in order.payments if payment.amount is not None)  # type: ignore[assignment]  # never the int 0: there is one
    for command in commands:
        me = command.command_id
        made_order = command.kind == "create" and command.status in ("done", "refused")
        told = command.amount is not None and stated is not None
        if made_order and told and money(command.amount) != money(stated):
            found.add(("amount_differs_from_request", me))
        kept = any(received(payment) > 0 and not given_back(order, payment) for payment in order.payments)
        if command.kind == "cancel" and command.status in MIGHT_HAVE_HAPPENED and kept:
            found.add(("paid_after_cancel_asked", me))
        if command.kind != "refund":
            continue
        waited_from = command.settled_at if command.accepted_at is None else command.accepted_at
        here = (
            set(command.refund_ids) <= set(shown)
            if command.refund_ids
            else made.count(me) >= max(len(command.reserved), 1)
        )
        agreed = command.status in ("accepted", "done") and waited_from is not None
        if agreed and not here and now > waited_from + timedelta(hours=1):  # type: ignore[operator]  # agreed says it is one
            found.add(("refund_missing", me))
        mine = [r for r in order.refunds if r.refund_id in command.refund_ids and r.status != "failed"]
        for payment_id in {refund.transaction_id for refund in mine}:
            amounts = [refund.amount for refund in mine if refund.transaction_id == payment_id]
            wanted = money(command.reserved.get(payment_id or "no payment"))
            if command.reserved and None not in amounts and sum(map(money, amounts)) != wanted:
                found.add(("amount_differs_from_request", me))
    return found
