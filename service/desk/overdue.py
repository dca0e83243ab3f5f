"""The discrepancy `unknown_outcome`: opened and resolved where commands change, and not with a look at an order."""

from datetime import datetime
from typing import Any

from asyncpg import Record

from service.desk.intents import QUERIES, CommandRow, asked_command
from service.orders.rules import Finding
from service.orders.rules.asked import UNKNOWN_OUTCOME, unknown_outcome
from service.sync.changes import DiscrepancyChange, OpenDiscrepancy, discrepancy_changes
from service.sync.judging import write_changes


def lock_ids(command_id: str, *order_ids: str | None) -> set[str]:
    """What a transaction that changes this command locks: itself, and the orders that it is about."""
    return {command_id, *(order_id for order_id in order_ids if order_id is not None)}


async def tell_unknown_outcome(connection: Any, command: CommandRow, now: datetime) -> list[DiscrepancyChange]:
    """Opens it once the outcome has been unknown for long, resolves it when it is known; what changed.

    Belongs in the transaction that changes the command, under the locks of `lock_ids`. The discrepancy stands on the
    order, or on the command where no order is known yet; it stays where it was opened.
    """
    row = await connection.fetchrow(QUERIES.read_open_unknown_outcome, command.command_id)
    finding = unknown_outcome(asked_command(command), now)
    changes = discrepancy_changes(
        row["order_id"] if row else command.order_id or command.command_id,
        row["account"] if row else command.account,
        [finding] if finding else [],
        [_open(row)] if row else [],
    )
    await write_changes(connection, now, changes, {})
    return changes


def _open(row: Record) -> OpenDiscrepancy:
    return OpenDiscrepancy(
        id=row["id"],
        order_id=row["order_id"],
        account=row["account"],
        finding=Finding(
            rule=UNKNOWN_OUTCOME,
            subject_id=row["subject_id"],
            severity=row["severity"],
            amount_at_stake=row["amount_at_stake"],
            currency=row["currency"],
            expected=row["expected"],
            actual=row["actual"],
            explanation=row["explanation"],
        ),
    )
