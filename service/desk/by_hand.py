"""What people decide about a command: that it is withdrawn, or what became of one that nobody knows about."""

import json
import re
from datetime import datetime
from typing import Any

from asyncpg import Record

from service.database.pool import Database
from service.desk.create_rules import without_card_tokens
from service.desk.errors import AlreadySent, Fault, InvalidRequest, UnknownCommand, WrongState
from service.desk.intents import QUERIES, CommandRow, command_row
from service.desk.overdue import lock_ids, tell_unknown_outcome
from service.desk.report import report_settled
from service.desk.search import made_refunds
from service.mercadopago.json_text import parse_json
from service.mercadopago.payer import without_payer
from service.orders.asked import SETTLED_STATUSES
from service.orders.rules.asked import MISSING_AFTER
from service.sync.locks import lock_orders
from service.sync.report import report_discrepancy

_ORDER_ID = re.compile(r"(ORD|PPORD)[0-9A-Za-z]{10,60}|MO[0-9]{1,20}", re.ASCII)
WITHDRAWN = "Withdrawn before it was sent: Mercado Pago never heard of it."


async def withdraw(database: Database, command_id: str, *, asked_by: str) -> CommandRow:
    """Withdraws what provably never left, and keeps who wanted it so.

    The row's lock decides between this and the runner's claim.
    """
    async with database.transaction() as connection:
        row = await _locked(connection, command_id)
        if row["status"] == "withdrawn":
            return command_row(row)
        if row["status"] in SETTLED_STATUSES:
            raise WrongState(f"The command is {row['status']} already.", code="already_settled")
        if row["maybe_sent_at"] is not None or row["is_held"]:
            raise AlreadySent
        word = json.dumps({"withdrawn_by": asked_by})
        command = await settle_locked(connection, row, "withdrawn", f"{WITHDRAWN} ({asked_by})", answer=word)
    report_settled(command)
    return command


async def settle_by_hand(
    database: Database, command_id: str, *, status: str, note: str, asked_by: str, order_id: str | None
) -> CommandRow:
    """Settles a command of unknown outcome by somebody's word, which is kept with it.

    So it does with a refund that Mercado Pago accepted and has not carried out for longer than it is waited for: until
    somebody says what became of it, it keeps its share of the payment.
    """
    _check_word(status, note, order_id)
    found = await database.fetchrow(QUERIES.read_command, command_id)
    locks = lock_ids(command_id, found["order_id"] if found else None, order_id)
    async with database.transaction() as connection:
        now = await lock_orders(connection, locks)
        row = await _locked(connection, command_id)
        _check_open(row, status, order_id, now)
        if order_id is not None and await connection.fetch(QUERIES.read_owned_orders, [order_id], command_id):
            raise WrongState("That order was made by another command.", code="taken")
        if row["kind"] == "refund" and status == "done":
            await _name_refunds(connection, command_row(row))
        word = json.dumps({"settled_by": asked_by, "note": note})
        command = await settle_locked(connection, row, status, f"{note} ({asked_by})", order_id=order_id, answer=word)
        changes = await tell_unknown_outcome(connection, command, now)
        if command.order_id is not None:
            await connection.execute(QUERIES.mark_orders_due, [command.order_id], [command.account])
    for change in changes:
        report_discrepancy(change)
    report_settled(command)
    return command


async def settle_locked(
    connection: Any, row: Record, status: str, message: str, *, order_id: str | None = None, answer: str | None = None
) -> CommandRow:
    """Settles a command whose row this transaction has locked; its body keeps no card token."""
    body = row["body"]
    if body is not None and row["kind"] == "create":
        body = without_payer(parse_json(without_card_tokens(body).encode())).text
    return command_row(
        await connection.fetchrow(QUERIES.settle_locked, row["command_id"], status, order_id, message, answer, body)
    )


async def _locked(connection: Any, command_id: str) -> Record:
    row: Record | None = await connection.fetchrow(QUERIES.lock_command, command_id)
    if row is None:
        raise UnknownCommand(f"there is no command {command_id}")
    return row


async def _name_refunds(connection: Any, command: CommandRow) -> None:
    """A refund is done when the order shows it, whoever says so."""
    made = await made_refunds(connection, command)
    if not made:
        raise WrongState(
            "The stored order shows no refund that could be this one: fetch the order first.", code="not_shown"
        )
    await connection.execute(QUERIES.name_refunds, command.command_id, [one.refund_id for one in made])


def _check_word(status: str, note: str, order_id: str | None) -> None:
    faults = []
    if status not in {"done", "refused"}:
        faults.append(Fault("status", "must be done or refused"))
    if not note.strip():
        faults.append(Fault("note", "is required: say how you found out"))
    if order_id is not None and not _ORDER_ID.fullmatch(order_id):
        faults.append(Fault("order_id", "must be an order's id, like ORD01JSA8"))
    if status == "refused" and order_id is not None:
        faults.append(Fault("order_id", "belongs to a command that is done"))
    if faults:
        raise InvalidRequest(faults)


def _check_open(row: Record, status: str, order_id: str | None, now: datetime) -> None:
    if row["status"] == "accepted" and row["kind"] == "refund":
        if now - row["accepted_at"] <= MISSING_AFTER:
            raise WrongState(
                "Mercado Pago accepted this refund less than an hour ago: wait for the order to show it.",
                code="not_unknown",
            )
    # One that is being sent at this moment is `sending`.
    elif row["status"] != "unknown":
        raise WrongState("Only a command whose outcome is unknown is settled by hand.", code="not_unknown")
    if row["kind"] == "create" and status == "done" and order_id is None:
        raise InvalidRequest([Fault("order_id", "is required: the order that the creation made")])
    if row["order_id"] is not None and order_id not in (None, row["order_id"]):
        raise InvalidRequest([Fault("order_id", "is not the order that the command is about")])
