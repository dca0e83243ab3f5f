"""Evaluating all rules over all stored orders again, so that the open discrepancies are exactly what they find (I5).

Streams: orders by id, one transaction per batch, under the same locks as an apply and through the same decisions, so it
is safe beside running services. Every order is judged on its own turn, `duplicate_sale` included. After any end what is
committed is consistent, and the next run does the rest. `unknown_outcome` belongs to whoever executes commands.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from asyncpg import Record

from service.database.pool import Database
from service.database.queries import load
from service.sync.changes import Applied, DiscrepancyChange, changes_within
from service.sync.duplicates import duplicates_standing
from service.sync.judging import judge_rows, read_payloads, write_changes, write_next_times
from service.sync.locks import REFERENCE_ROUNDS, ReferenceMovedError, lock
from service.sync.policies import RefundPolicy
from service.sync.positions import number_events
from service.sync.report import report_discrepancy

QUERIES = load(Path(__file__).with_name("reconcile.sql"))

# Two advisory locks an order at most: well within what the server has room for, and held for a few hundredths.
BATCH = 250
_POLICY_RULE = "refund_unexplained"


@dataclass(slots=True)
class Report:
    """What a run changed, or would change: `changes` by (rule, change), where a change is as in `DiscrepancyChange`.

    `unreadable` counts stored orders whose payload cannot be read by this build: their discrepancies stand.
    """

    orders: int = 0
    unreadable: int = 0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def opened_or_resolved(self) -> int:
        """How many discrepancies were not as they should be."""
        return sum(number for (_, change), number in self.changes.items() if change != "refreshed")


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One run. `account` limits it to one account's orders; `batch` is how many orders one transaction judges.

    `refunds_only_here_since` is the accounts' policy, `known_accounts` those that it is known of: the others'
    `refund_unexplained` discrepancies stand as they are, because what they are judged by is not known here.
    `on_judged` is told after each batch how many orders were judged and what was (or would be) changed.
    """

    database: Database
    refunds_only_here_since: RefundPolicy
    known_accounts: Collection[str]
    account: str | None = None
    dry_run: bool = False
    batch: int = BATCH
    on_judged: Callable[[int, Sequence[DiscrepancyChange]], None] = lambda _orders, _changes: None

    async def carry_out(self) -> Report:
        """Judges every stored order once. Raises what the database raises; batches before that are done."""
        report = Report()
        after = ""
        while rows := await self.database.fetch(QUERIES.read_orders_after, after, self.account, self.batch):
            after = rows[-1]["order_id"]
            changes, judged, unreadable = await self._judge_batch(rows)
            report.orders += judged
            report.unreadable += unreadable
            report.changes.update((change.finding.rule, change.change) for change in changes)
            self.on_judged(judged, changes)
        if report.opened_or_resolved and not self.dry_run:
            await number_events(self.database)
        return report

    async def count(self) -> int:
        """How many orders there are to judge."""
        number: int = await self.database.fetchval(QUERIES.count_stored_orders, self.account)
        return number

    async def _judge_batch(self, rows: Sequence[Record]) -> tuple[list[DiscrepancyChange], int, int]:
        """What changes on these orders, how many were judged, and how many could not be."""
        ids = [row["order_id"] for row in rows]
        references = {(row["account"], row["external_reference"]) for row in rows if row["external_reference"]}
        for _ in range(REFERENCE_ROUNDS):
            try:
                async with self.database.transaction() as connection:
                    changes, judged, unreadable = await self._judge_in(connection, ids, references)
            except ReferenceMovedError as moved:
                references |= moved.references
                continue
            if not self.dry_run:
                for change in changes:
                    report_discrepancy(change)
            return changes, judged, unreadable
        raise RuntimeError("the references of these orders keep moving; run it again")

    async def _judge_in(
        self, connection: Any, ids: Sequence[str], references: set[tuple[str, str]]
    ) -> tuple[list[DiscrepancyChange], int, int]:
        if self.dry_run:
            await connection.execute(QUERIES.write_nothing)
        now = await lock(connection, ids, references)
        judged = judge_rows(await read_payloads(connection, ids), now, self.refunds_only_here_since)
        moved = {
            (one.account, reference)
            for one in judged.orders
            if (reference := one.snapshot.external_reference) and (one.account, reference) not in references
        }
        if moved:
            raise ReferenceMovedError(moved)
        changes = [
            change
            for change in changes_within(judged.orders) + await duplicates_standing(connection, judged.orders)
            if change.finding.rule != _POLICY_RULE or change.account in self.known_accounts
        ]
        if not self.dry_run:
            await self._write(connection, now, judged.orders, changes)
        return changes, len(judged.orders), len(judged.unreadable)

    async def _write(
        self, connection: Any, now: datetime, judged: Sequence[Applied], changes: Sequence[DiscrepancyChange]
    ) -> None:
        await write_changes(connection, now, changes, {one.snapshot.order_id: one.version for one in judged})
        await write_next_times(
            connection,
            now,
            {
                one.snapshot.order_id: one.rules_due_at
                for one in judged
                if one.stored is not None and one.rules_due_at != one.stored.rules_due_at
            },
        )
