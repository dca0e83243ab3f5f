"""What became of commands, committed: of a claim after its call, of what stored orders show, of what time has ended.

Every transaction takes the locks of the orders concerned first, then the commands' rows, and marks last what is due in
`sync`: the same order everywhere, so nobody waits in a circle (see `service.sync.locks`).
"""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from service.database.pool import Database
from service.desk.by_hand import settle_locked
from service.desk.create_rules import without_card_tokens
from service.desk.intents import QUERIES, CommandRow, command_row
from service.desk.legacy import let_newer_pass
from service.desk.legacy_watch import first_watch_seconds
from service.desk.outcomes import Outcome, Verdict
from service.desk.overdue import lock_ids, tell_unknown_outcome
from service.desk.report import report_settled, report_unknown
from service.desk.search import (
    ADOPTED,
    ANSWERED_AT,
    IN_FLIGHT,
    MUST_COMPARE,
    PAID_FIRST,
    REFUND_FAILED,
    REFUND_HALF_FAILED,
    made_refunds,
)
from service.desk.work import Work
from service.mercadopago.json_text import parse_json
from service.mercadopago.legacy import is_merchant_order_id
from service.mercadopago.payer import without_payer
from service.orders.lifecycle import CLOSED_STATUSES, PAID_STATUSES
from service.orders.rules.asked import UNKNOWN_AFTER
from service.sync.changes import DiscrepancyChange
from service.sync.locks import lock_orders
from service.sync.report import report_discrepancy
from service.telemetry import crashpoints

# An accepted command is compared with the stored order so soon after the answer.
FIRST_SIGHT_SECONDS: Final = 0.25
# Another creation has made the order that this one was thought to have made.
TAKEN_WAIT_SECONDS: Final = 60.0
TOO_LATE = "It could not be sent to Mercado Pago while the sale was waiting, and was withdrawn: ask again."
TAKEN_BACK = (
    "What it was thought to have made was made by another command: what became of this one is being found out; do not "
    "ask for it again."
)
OVERTAKEN = (
    "It could not be sent to Mercado Pago before something newer was put on the same point of sale, and was withdrawn: "
    "ask again if this sale is still on."
)

_STATUS_OF: Final = {
    Verdict.DONE: "done",
    Verdict.ACCEPTED: "accepted",
    Verdict.REFUSED: "refused",
    Verdict.UNSENT: "waiting",
    Verdict.COMPARE: "unknown",
}


async def commit_outcome(
    database: Database, work: Work, outcome: Outcome, answer: str | None, *, keep_payer: bool = False
) -> CommandRow | None:
    """Commits what became of a claim; None where its lease was lost, so that somebody else will.

    `answer` is the provider's JSON as text; it is kept without card tokens, and without its payer unless `keep_payer`.
    What the provider did for a claim whose lease was lost is not lost: its order is looked at, and a command that was
    settled as refused meanwhile is opened again. An answer takes its order or refunds back from a command that had only
    found them by looking. Raises what the database raises.
    """
    command = work.command
    async with database.transaction() as connection:
        now = await lock_orders(connection, lock_ids(command.command_id, command.order_id, outcome.order_id))
        mistaken = await _take_back(connection, work, outcome)
        outcome = await _unless_taken(connection, work, outcome)
        settled = await _write(connection, work, outcome, answer, now, keep_payer=keep_payer)
        changes: list[DiscrepancyChange] = []
        if settled is None:
            await _take_late(connection, work, outcome)
        else:
            await let_newer_pass(connection, settled)
        if settled is not None and command.maybe_sent_at is not None and now - command.maybe_sent_at > UNKNOWN_AFTER:
            changes = await tell_unknown_outcome(connection, settled, now)
        if settled is not None and settled.order_id is not None and _may_have_changed(outcome):
            await connection.execute(QUERIES.mark_orders_due, [settled.order_id], [settled.account])
        crashpoints.reach("desk.outcome.before_commit")
    crashpoints.reach("desk.outcome.after_commit")
    _report([settled] if settled is not None else [], changes)
    for one in mistaken:
        report_unknown(one)
    if settled is not None and settled.status == "unknown" and not work.was_unknown:
        report_unknown(settled)
    return settled


def status_after(outcome: Outcome) -> str:
    """The command's status; one that is repeated is unknown only if it may have taken effect."""
    if outcome.verdict is Verdict.RETRY:
        return "unknown" if outcome.unknown else "waiting"
    return _STATUS_OF[outcome.verdict]


def due_after(outcome: Outcome) -> float | None:
    """Seconds until somebody has to see to it again; None for never."""
    if outcome.verdict in (Verdict.DONE, Verdict.REFUSED):
        return None
    return FIRST_SIGHT_SECONDS if outcome.verdict is Verdict.ACCEPTED else outcome.wait_seconds


async def _take_late(connection: Any, work: Work, outcome: Outcome) -> None:
    """The lease was lost, and Mercado Pago did it all the same."""
    if outcome.verdict not in (Verdict.DONE, Verdict.ACCEPTED):
        return
    command = work.command
    order_id = command.order_id or outcome.order_id
    await connection.execute(
        QUERIES.take_late_success,
        command.command_id,
        _order_made(command, outcome),
        [one.refund_id for one in outcome.refunds],
        outcome.status,
    )
    if order_id is not None:
        await connection.execute(QUERIES.mark_orders_due, [order_id], [command.account])


def fit_to_keep(text: str, *, keep_payer: bool) -> str:
    """What was sent or answered, as it is kept once it is settled: no card data, and no payer unless they are kept."""
    masked = without_card_tokens(text)
    return masked if keep_payer else without_payer(parse_json(masked.encode())).text


async def _write(
    connection: Any, work: Work, outcome: Outcome, answer: str | None, now: datetime, *, keep_payer: bool
) -> CommandRow | None:
    command, status, decided = work.command, status_after(outcome), outcome.verdict in _DECIDED
    body = work.body
    if body is not None and command.kind == "create" and outcome.verdict in (Verdict.DONE, Verdict.REFUSED):
        body = fit_to_keep(body, keep_payer=keep_payer)
    if answer:
        answer = fit_to_keep(answer, keep_payer=keep_payer)
    row = await connection.fetchrow(
        QUERIES.settle_claim,
        command.command_id,
        work.lease_token,
        status,
        _order_made(command, outcome),
        # Provably unsent, and no earlier attempt can have reached the provider.
        outcome.verdict is Verdict.UNSENT and work.is_first,
        _options_after(work, outcome, now),
        outcome.status,
        outcome.code,
        outcome.message,
        [one.refund_id for one in outcome.refunds] if command.kind == "refund" else [],
        answer if decided and answer else None,
        None if decided else _last_error(outcome),
        body,
        first_watch_seconds(work, outcome)
        if outcome.verdict in (Verdict.DONE, Verdict.REFUSED)
        else due_after(outcome),
    )
    return None if row is None else command_row(row)


def _order_made(command: CommandRow, outcome: Outcome) -> str | None:
    """What a creation made; other answers bear ids of other things."""
    order_id = outcome.order_id
    if order_id is None or command.kind == "create":
        return order_id
    return order_id if command.order_id is None and is_merchant_order_id(order_id) else None


def _options_after(work: Work, outcome: Outcome, now: datetime) -> str | None:
    """What the command's options gain as JSON text; None for nothing.

    The option that ends repeating says for how many seconds after `now`, the end of the attempt, one may be at work at
    the provider: its own refusal says that none is, because the key would have been in use; a page without its code is
    a gateway's, which knows nothing of that. What was found by looking is marked as adopted.
    """
    if work.is_past:
        adopts = work.command.kind in _OWNERS and outcome.verdict in (Verdict.DONE, Verdict.ACCEPTED)
        return json.dumps({ADOPTED: True}) if adopts else None
    if outcome.verdict is not Verdict.COMPARE:
        return None
    refused = outcome.status is not None and 400 <= outcome.status < 500 and outcome.status not in (408, 423)
    answered = refused and outcome.code is not None
    return json.dumps({MUST_COMPARE: 0 if answered else IN_FLIGHT.total_seconds(), ANSWERED_AT: now.isoformat()})


# Kinds of commands of which something is made that belongs to one of them alone.
_OWNERS: Final = frozenset({"create", "refund"})
_DECIDED: Final = frozenset({Verdict.DONE, Verdict.ACCEPTED, Verdict.REFUSED})


def _last_error(outcome: Outcome) -> str:
    """For the operator: `503 internal_error`, `timeout`."""
    return " ".join(str(one) for one in (outcome.status, outcome.code) if one) or outcome.verdict.value


def _may_have_changed(outcome: Outcome) -> bool:
    """Whether the order deserves a look: something happened to it, or may have, or is otherwise than was thought."""
    return outcome.verdict in (Verdict.DONE, Verdict.ACCEPTED, Verdict.REFUSED, Verdict.COMPARE) or outcome.unknown


async def _take_back(connection: Any, work: Work, outcome: Outcome) -> list[CommandRow]:
    """An answer under a command's own key proves what it made: whoever had found that by looking gives it back.

    Decided under the order's lock. Those who had are open again, and told so.
    """
    command, refund_ids = work.command, [one.refund_id for one in outcome.refunds]
    made = outcome.order_id if command.kind == "create" else command.order_id
    if work.is_past or command.kind not in _OWNERS or made is None:
        return []
    rows = await connection.fetch(
        QUERIES.take_back_adopted,
        command.command_id,
        command.kind,
        made,
        refund_ids,
        IN_FLIGHT.total_seconds(),
        TAKEN_BACK,
    )
    return [command_row(row) for row in rows]


async def _unless_taken(connection: Any, work: Work, outcome: Outcome) -> Outcome:
    """An order belongs to one creation and a refund to one command, however they were found: decided under a lock."""
    command, refund_ids = work.command, [one.refund_id for one in outcome.refunds]
    if command.kind == "create" and outcome.order_id is not None and outcome.verdict is Verdict.DONE:
        owned = await connection.fetch(QUERIES.read_owned_orders, [outcome.order_id], command.command_id)
    elif command.kind == "refund" and work.is_past and outcome.verdict is Verdict.ACCEPTED:
        owned = await connection.fetchval(QUERIES.are_refunds_owned, command.order_id, refund_ids, command.command_id)
    else:
        return outcome
    if not owned:
        return outcome
    return replace(
        outcome,
        verdict=Verdict.COMPARE,
        code="taken",
        order_id=None,
        refunds=(),
        unknown=True,
        wait_seconds=TAKEN_WAIT_SECONDS,
    )


async def settle_seen(database: Database) -> list[CommandRow]:
    """Compares accepted commands that are due with what is stored of their orders; those that were settled by it.

    What is not shown yet is looked at again later, and its order is marked due.
    """
    rows = await database.fetch(QUERIES.read_commands_to_see)
    if not rows:
        return []
    ids = [row["command_id"] for row in rows]
    orders = {row["order_id"] for row in rows if row["order_id"] is not None}
    async with database.transaction() as connection:
        await lock_orders(connection, orders)
        await connection.execute(QUERIES.name_refunds_by_reference, ids)
        for row in await connection.fetch(QUERIES.read_nameless_refunds, ids):
            await name_refunds(connection, command_row(row))
        settled = [
            command_row(row)
            for row in await connection.fetch(
                QUERIES.settle_seen,
                ids,
                sorted(CLOSED_STATUSES),
                sorted(PAID_STATUSES),
                PAID_FIRST,
                REFUND_FAILED,
                REFUND_HALF_FAILED,
            )
        ]
        if settled:
            await connection.execute(
                QUERIES.judge_orders_soon, sorted({one.order_id for one in settled if one.order_id is not None})
            )
        late = {
            row["order_id"]: row["account"]
            for row in await connection.fetch(QUERIES.wait_to_see, ids)
            if row["is_late"] and row["order_id"] is not None
        }
        if late:
            await connection.execute(QUERIES.mark_orders_due, list(late), list(late.values()))
        if settled:
            crashpoints.reach("desk.seen.before_commit")
    if settled:
        crashpoints.reach("desk.seen.after_commit")
    _report(settled, [])
    return settled


async def name_refunds(connection: Any, command: CommandRow) -> bool:
    """Gives a refund command the ids of its refunds, where the stored order shows them all; whether it does.

    Under the order's lock: no two commands take the same refund.
    """
    made = await made_refunds(connection, command)
    if len(made) < max(1, len(command.reserved)):
        return False
    await connection.execute(QUERIES.name_refunds, command.command_id, [one.refund_id for one in made])
    return True


async def withdraw_stale(database: Database) -> list[CommandRow]:
    """Withdraws sales that could not be sent while anybody waited for them, or before a newer one on their place."""
    async with database.transaction() as connection:
        rows = await connection.fetch(QUERIES.lock_stale_commands)
        settled = [
            await settle_locked(connection, row, "withdrawn", TOO_LATE if row["is_over"] else OVERTAKEN) for row in rows
        ]
    _report(settled, [])
    return settled


async def tell_unknown_outcomes(database: Database) -> int:
    """Opens `unknown_outcome` for commands that time alone has made overdue; how many were opened."""
    rows = await database.fetch(QUERIES.read_unknown_without_discrepancy, UNKNOWN_AFTER.total_seconds())
    opened = 0
    for row in rows:
        async with database.transaction() as connection:
            now = await lock_orders(connection, lock_ids(row["command_id"], row["order_id"]))
            found = await connection.fetchrow(QUERIES.lock_command, row["command_id"])
            assert found is not None, "commands are never deleted"
            changes = await tell_unknown_outcome(connection, command_row(found), now)
        opened += len(changes)
        _report([], changes)
    return opened


def _report(commands: list[CommandRow], changes: list[DiscrepancyChange]) -> None:
    for command in commands:
        if command.is_settled:
            report_settled(command)
    for change in changes:
        report_discrepancy(change)
