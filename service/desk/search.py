"""What became of a command that cannot be repeated any more: found out by looking and comparing.

Mercado Pago remembers an idempotency key for 24 hours; well before that nothing is repeated here. A creation is
searched for by its reference (a list lags behind, so an empty page proves nothing); of a cancellation or a refund the
order itself, read anew, is the authority.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from asyncpg import Record

from service.database.pool import Querying
from service.desk.intents import QUERIES, CommandRow, asked_commands
from service.desk.order_intents import EVERYTHING, stored_payment, stored_refund
from service.desk.outcomes import MadeRefund, Outcome, Verdict
from service.desk.work import Tools, Work
from service.mercadopago.account import Account
from service.mercadopago.listing import ListedOrder
from service.orders.asked import AskedCommand, explained_refunds
from service.orders.lifecycle import CLOSED_STATUSES, PAID_STATUSES, REFUND_PROCESSED, REFUND_PROCESSING, paid_sum
from service.orders.money import parse_amount, total_of
from service.orders.snapshot import Payment, Refund
from service.sync.claims import QUERIES as SYNC_QUERIES

# The provider's clock and ours may be that far apart.
CLOCKS_APART: Final = timedelta(minutes=5)
# By then a call that was sent last has reached the provider, or never will.
IN_FLIGHT: Final = timedelta(minutes=5)
NOT_FOUND: Final = "not_found_after_24h"
# A creation that nothing shows is given up so long after its order would have ended.
ABSENT_FOR: Final = timedelta(hours=24)
# The option of a command that is not repeated although its key is still remembered.
MUST_COMPARE: Final = "must_compare"
# The option that says when its last attempt ended; what began before that proves nothing of it.
ANSWERED_AT: Final = "answered_at"
# The option of a command whose order or refunds were found by looking: no answer of its own tells of them.
ADOPTED: Final = "adopted"
_PAGES: Final = 20
_FRESH_WAIT_SECONDS: Final = 2.0
_ABSENT_WAIT_SECONDS: Final = 600.0
_PERSON_WAIT_SECONDS: Final = 3600.0


async def compare_create(tools: Tools, account: Account, work: Work) -> Outcome:
    """The one order of its reference, type and amount that it can have made, among those listed and those stored."""
    command = work.command
    if command.external_reference is None or command.maybe_sent_at is None:
        return _look_again(
            _PERSON_WAIT_SECONDS,
            "Nobody knows whether this order was made, and it has no reference to search for: look at Mercado Pago.",
        )
    # The clock that the command's own times are of: this machine's may be anywhere.
    now: datetime = await tools.database.fetchval(SYNC_QUERIES.database_now)
    found = await _stored_candidates(tools, command)
    found |= await _listed_candidates(tools, account, command, command.external_reference, now)
    owned = await tools.database.fetch(QUERIES.read_owned_orders, sorted(found), command.command_id)
    found -= {row["order_id"] for row in owned}
    if not found and is_over(command, now):
        return Outcome(
            Verdict.REFUSED,
            code=NOT_FOUND,
            message="Mercado Pago never answered, and no order of this reference was seen a day after it would have "
            "ended: it was not made, or nobody paid it.",
        )
    if not found:
        return _look_again(
            _ABSENT_WAIT_SECONDS,
            f"Mercado Pago lists no order {command.external_reference} of this amount so far; its list may lag behind.",
        )
    if len(found) > 1:
        return _look_again(
            _PERSON_WAIT_SECONDS, f"Several orders may be this one ({', '.join(sorted(found))}): say which one it is."
        )
    return Outcome(Verdict.DONE, status=200, order_id=found.pop())


def is_over(command: CommandRow, now: datetime) -> bool:
    """A day after the order would have ended, had it been made: paid, it would have been told of or listed by now."""
    moments = (command.attempted_at, command.valid_until, command.expires_at, _sent(command))
    return now > max(moment for moment in moments if moment is not None) + ABSENT_FOR


async def compare_refund(tools: Tools, account: Account, work: Work) -> Outcome:
    """The refunds that nothing else explains, of just what was reserved, first seen since it was sent."""
    del account
    command = work.command
    if (stale := await _until_fresh(tools, command)) is not None:
        return stale
    found = await made_refunds(tools.database, command)
    if len(found) == len(command.reserved):
        return Outcome(
            Verdict.ACCEPTED,
            refunds=tuple(MadeRefund(one.refund_id, one.transaction_id, one.amount, one.status) for one in found),
        )
    if found:
        names = ", ".join(one.refund_id for one in found)
        return _look_again(
            _PERSON_WAIT_SECONDS, f"A part of it was given back ({names}), and the rest does not show: say what became."
        )
    return Outcome(
        Verdict.REFUSED,
        code=_not_found(command),
        message="Mercado Pago never answered, and the order shows no such refund: ask for it again if it is still due.",
    )


async def compare_cancel(tools: Tools, account: Account, work: Work) -> Outcome:
    """By the order's status, read anew."""
    del account
    command = work.command
    if (stale := await _until_fresh(tools, command)) is not None:
        return stale
    order = await tools.database.fetchrow(QUERIES.read_last_look, command.order_id, command.attempted_at)
    status = order["status"] if order else None
    if status in CLOSED_STATUSES:
        return Outcome(Verdict.ACCEPTED)
    if status in PAID_STATUSES:
        return Outcome(Verdict.REFUSED, code="paid_first", message=PAID_FIRST)
    return Outcome(
        Verdict.REFUSED,
        code=_not_found(command),
        message=f"Mercado Pago never answered, and the order is still {status}: cancel it again if it is to end.",
    )


PAID_FIRST: Final = "The buyer paid before the order was canceled: refund it if the sale is off."
REFUND_FAILED: Final = "Mercado Pago took the refund and could not carry it out: ask for it again."
REFUND_HALF_FAILED: Final = "Mercado Pago gave back %s, and could not carry out the rest: ask for the rest alone again."


async def made_refunds(database: Querying, command: CommandRow) -> list[Refund]:
    """The order's stored refunds that are this command's, by their ids or because nothing else explains them.

    Of "everything that is left", sent as that, the amount is the provider's to say: where nothing is left of a payment
    by now, the refund that took the rest is its last one.
    """
    assert command.order_id is not None
    rows = await database.fetch(QUERIES.read_refunds, command.order_id)
    commands = asked_commands(await database.fetch(QUERIES.read_commands_of_order, command.order_id))
    refunds = [stored_refund(row) for row in rows]
    since = {row["refund_id"] for row in rows if _may_be_of(row, command)}
    owners = explained_refunds(
        [one for one in refunds if one.refund_id in since or _is_named(one, commands)],
        commands,
        {row["refund_id"]: row["first_seen_at"] for row in rows},
    )
    made = [one for one in refunds if owners.get(one.refund_id) == command.command_id]
    if made or command.options.get(EVERYTHING) is not True:
        return made
    payments = await database.fetch(QUERIES.read_payments, command.order_id)
    last = [_that_took_the_rest(stored_payment(row), refunds) for row in payments]
    return [
        one
        for one in last
        if one is not None
        and one.transaction_id in command.reserved
        and one.refund_id in since
        and one.refund_id not in owners
    ]


def _may_be_of(row: Record, command: CommandRow) -> bool:
    return command.maybe_sent_at is not None and row["first_seen_at"] >= command.maybe_sent_at


def _is_named(refund: Refund, commands: Sequence[AskedCommand]) -> bool:
    return any(refund.refund_id in command.refund_ids for command in commands)


def _that_took_the_rest(payment: Payment, refunds: Sequence[Refund]) -> Refund | None:
    """The last refund of a payment of which nothing is left; None where something is."""
    own = [
        one
        for one in refunds
        if one.transaction_id == payment.payment_id and one.status in (REFUND_PROCESSED, REFUND_PROCESSING)
    ]
    given_back = total_of(one.amount for one in own)
    return own[-1] if own and given_back >= paid_sum(payment) > 0 else None


async def _stored_candidates(tools: Tools, command: CommandRow) -> set[str]:
    rows = await tools.database.fetch(
        QUERIES.read_stored_candidates,
        command.account,
        command.external_reference,
        _sent(command) - CLOCKS_APART,
        command.type,
        command.amount,
    )
    return {row["order_id"] for row in rows}


async def _listed_candidates(
    tools: Tools, account: Account, command: CommandRow, reference: str, now: datetime
) -> set[str]:
    begin = _sent(command) - CLOCKS_APART
    end = min(now, (command.attempted_at or _sent(command)) + IN_FLIGHT + CLOCKS_APART)
    found: set[str] = set()
    for page in range(1, _PAGES + 1):
        listed = await tools.client.search_orders(
            account, begin=begin, end=end, external_reference=reference, page=page
        )
        found |= {order.order_id for order in listed.orders if _is_like(order, command, begin)}
        if listed.is_last:
            break
    return found


def _is_like(order: ListedOrder, command: CommandRow, begin: datetime) -> bool:
    return (
        order.external_reference == command.external_reference
        and order.type == command.type
        and _amount_of(order) == command.amount
        and (order.created_at is None or order.created_at >= begin)
    )


def _amount_of(order: ListedOrder) -> Decimal | None:
    """Of a Point order, which need not tell its total, the sum of its payments."""
    if order.total_amount is not None:
        return order.total_amount
    transactions = order.document.get("transactions")
    payments: Sequence[Any] = transactions.get("payments") or () if isinstance(transactions, dict) else ()
    try:
        return total_of(parse_amount(payment["amount"]) for payment in payments)
    except (KeyError, TypeError, ValueError):
        return None


async def _until_fresh(tools: Tools, command: CommandRow) -> Outcome | None:
    """None once the stored order was asked for after the last attempt can have taken effect; else when to come back.

    Committing this outcome marks the order due, so the look comes.
    """
    last = command.attempted_at or _sent(command)
    at_work_seconds = command.options.get(MUST_COMPARE)
    if at_work_seconds is None:
        since = max(last + IN_FLIGHT, _sent(command) + RESEND_FOR)
    else:
        # The claim came before the call, and the call may have lasted.
        ended = command.options.get(ANSWERED_AT)
        since = (last if ended is None else datetime.fromisoformat(ended)) + timedelta(seconds=at_work_seconds)
    row = await tools.database.fetchrow(QUERIES.read_last_look, command.order_id, since)
    if row is not None and row["is_fresh"]:
        return None
    wait = max(_FRESH_WAIT_SECONDS, row["fresh_in_seconds"] if row else 0.0)
    return _look_again(wait, "Mercado Pago never answered: the order is being read again to find out.")


RESEND_FOR: Final = timedelta(hours=20)
"""For so long after its first attempt a command is repeated: the provider keeps a key for 24 hours from its arrival."""


def _not_found(command: CommandRow) -> str:
    return "not_found" if MUST_COMPARE in command.options else NOT_FOUND


def _sent(command: CommandRow) -> datetime:
    assert command.maybe_sent_at is not None
    return command.maybe_sent_at


def _look_again(seconds: float, message: str) -> Outcome:
    return Outcome(Verdict.COMPARE, code="unknown", message=message, wait_seconds=seconds, unknown=True)
