"""Applying looks: one transaction per natural batch, set-based, in one global lock order.

The order of a transaction: advisory locks on orders and references (sorted), what is stored, the pure decisions, the
writes, and last the `sync` rows. Either all of a batch's changes, versions, discrepancies, events and settled claims
are committed, or none is (invariants I3, I5, I6, I7).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import random
from typing import Any

import structlog

from service.database.pool import Database
from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.reader import ReadOrder, read_order
from service.orders.looks import next_look
from service.sync.changes import Applied, DiscrepancyChange, StoredOrder, changes_within, decide, judge_again
from service.sync.claims import QUERIES, Claim
from service.sync.duplicates import duplicate_changes
from service.sync.rows import change_row, order_row, part_rows, stored_order, to_json_text
from service.sync.settle import Failure, Settlement, settle_failure, settle_success

STALE_ANSWER_LOOK = timedelta(seconds=60)
OLDER = "older: the answer is dated before what is stored, which stands"
UNREADABLE_AGAIN = timedelta(days=1)
_REFERENCE_ROUNDS = 5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """One claim served: an order that was read, or the failure that came instead."""

    claim: Claim
    read: ReadOrder | None = None
    failure: Failure | None = None
    others_succeed: bool = False
    unreadable_body: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a look, after its commit. `settled` is False where the lease was lost meanwhile.

    `discrepancies` are this order's; the first of a batch bears those on orders outside of the batch, too.
    """

    look: Look
    applied: Applied | None
    settlement: Settlement
    settled: bool
    discrepancies: tuple[DiscrepancyChange, ...] = ()


class ReferenceMovedError(Exception):
    """A stored order has another reference than the ones locked: lock again, with that one too."""

    def __init__(self, references: set[tuple[str, str]]) -> None:
        super().__init__("an order's reference is not locked yet")
        self.references = references


async def apply_looks(database: Database, looks: Sequence[Look]) -> list[Outcome]:
    """Applies and settles a batch in one transaction. Raises what the database raises: then nothing was committed.

    Two looks at one order cannot be in one batch: the lease holds one, and a second claim after a lost lease is
    applied on its own turn, where the fence decides.
    """
    latest = {look.claim.order_id: look for look in sorted(looks, key=lambda look: look.claim.claimed_at)}
    outcomes = {
        id(look): one for look, one in zip(latest.values(), await _apply(database, list(latest.values())), strict=True)
    }
    answers = []
    for look in looks:
        if id(look) not in outcomes:
            outcomes[id(look)] = (await _apply(database, [look]))[0]
        answers.append(outcomes[id(look)])
    return answers


async def _apply(database: Database, looks: Sequence[Look]) -> list[Outcome]:
    references = {
        (look.claim.account, look.read.snapshot.external_reference)
        for look in looks
        if look.read is not None and look.read.snapshot.external_reference
    }
    for _ in range(_REFERENCE_ROUNDS):
        try:
            async with database.transaction() as connection:
                return await _apply_in(connection, looks, references)
        except ReferenceMovedError as moved:
            references |= moved.references
    raise RuntimeError("references of one batch kept moving; it will be looked at again")


async def judge_stored(database: Database, ids: Sequence[str]) -> list[DiscrepancyChange]:
    """Re-evaluates stored orders whose rules are due, without a look: time alone can open a discrepancy."""
    async with database.transaction() as connection:
        now = await _lock(connection, ids, set())
        rows = await connection.fetch(QUERIES.read_stored_orders, ids, ids)
        judged: list[Applied] = []
        next_times: dict[str, datetime | None] = {}
        for row in rows:
            stored = stored_order(row)
            try:
                read = read_order(row["payload"].encode(), stored.order_id)
            except MercadoPagoError as error:
                # Stored by a build that read more. It must not hold up the others, nor be forgotten.
                log.warning("stored_order_unreadable", order_id=stored.order_id, error=str(error))
                next_times[stored.order_id] = now + UNREADABLE_AGAIN
                continue
            one = judge_again(read.snapshot, stored, now)
            judged.append(one)
            next_times[stored.order_id] = one.rules_due_at
        changes = changes_within(judged)
        nothing = [None] * len(next_times)
        await connection.execute(
            QUERIES.refresh_orders, list(next_times), nothing, nothing, list(next_times.values()), now
        )
        await _write_changes(connection, now, changes, {one.snapshot.order_id: one.version for one in judged})
    return changes


async def _apply_in(connection: Any, looks: Sequence[Look], references: set[tuple[str, str]]) -> list[Outcome]:
    read = [look for look in looks if look.read is not None]
    stored: dict[str, StoredOrder] = {}
    if read:
        ids = [look.claim.order_id for look in read]
        now = await _lock(connection, ids, references)
        stored = {
            one.order_id: one for one in map(stored_order, await connection.fetch(QUERIES.read_stored_orders, ids, []))
        }
        moved = _references(stored.values()) - references
        # A stored order keeps its account, which need not be the one that the claim was made for.
        moved |= {
            (stored[look.claim.order_id].account, reference)
            for look in read
            if look.claim.order_id in stored
            and (reference := look.read.snapshot.external_reference if look.read else None)
        } - references
        if moved:
            raise ReferenceMovedError(moved)
    else:
        now = await connection.fetchval(QUERIES.database_now)
    decided = {look.claim.order_id: _decide(look, stored.get(look.claim.order_id), now) for look in read}
    await _write_orders(connection, now, read, decided)
    applied = list(decided.values())
    changes = changes_within(applied) + await duplicate_changes(connection, applied)
    await _write_changes(connection, now, changes, {one.snapshot.order_id: one.version for one in applied})
    settlements = [_settlement(look, decided.get(look.claim.order_id), now) for look in looks]
    settled = await _settle(connection, looks, settlements, decided)
    here = {look.claim.order_id for look in looks}
    # What an order's sale changes on its namesakes is told with the first look of the batch.
    elsewhere = [change for change in changes if change.order_id not in here]
    return [
        Outcome(
            look=look,
            applied=decided.get(look.claim.order_id),
            settlement=settlement,
            settled=look.claim.order_id in settled,
            discrepancies=tuple(
                [change for change in changes if change.order_id == look.claim.order_id]
                + (elsewhere if number == 0 else [])
            ),
        )
        for number, (look, settlement) in enumerate(zip(looks, settlements, strict=True))
    ]


def _references(orders: Iterable[StoredOrder]) -> set[tuple[str, str]]:
    return {(one.account, one.external_reference) for one in orders if one.external_reference}


def _decide(look: Look, stored: StoredOrder | None, now: datetime) -> Applied:
    assert look.read is not None
    return decide(look.read, account=look.claim.account, claimed_at=look.claim.claimed_at, stored=stored, now=now)


def _settlement(look: Look, applied: Applied | None, now: datetime) -> Settlement:
    if applied is None:
        assert look.failure is not None
        return settle_failure(look.claim, look.failure, now=now, random=random(), others_succeed=look.others_succeed)
    if applied.outcome == "older":
        # A stale read at the provider: what is stored stays, and a fresh look is owed soon.
        return settle_success("older", now + STALE_ANSWER_LOOK, last_error=OLDER)
    stored = applied.stored
    changed_now = applied.outcome == "applied"
    due_at = next_look(
        applied.snapshot,
        first_seen_at=stored.first_seen_at if stored else now,
        changed_at=now if changed_now or stored is None else stored.changed_at,
        now=now,
        refund_first_seen=applied.history.refund_first_seen,
        jitter=random() * 2 - 1,
    )
    return settle_success(applied.outcome, due_at)


async def _lock(connection: Any, order_ids: Iterable[str], references: Iterable[tuple[str, str]]) -> datetime:
    """Takes every lock of the transaction at once and sorted: no two transactions can wait for each other.

    Returns the time after the last of them was granted: what is written now carries it.
    """
    keys = {_key("order", order_id) for order_id in order_ids}
    keys |= {_key("reference", account, reference) for account, reference in references}
    now: datetime = await connection.fetchval(QUERIES.lock_keys, sorted(keys))
    return now


def _key(*parts: str) -> int:
    """A 64-bit advisory lock key; two things that share one merely wait for each other."""
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big", signed=True)


async def _write_orders(connection: Any, now: datetime, looks: Sequence[Look], decided: Mapping[str, Applied]) -> None:
    changed = [look for look in looks if decided[look.claim.order_id].outcome == "applied"]
    same = [one for one in decided.values() if one.outcome == "unchanged"]
    if changed:
        ids, rows, payloads = [], [], []
        for look in sorted(changed, key=lambda look: look.claim.order_id):
            assert look.read is not None
            ids.append(look.claim.order_id)
            payloads.append(look.read.text)
            rows.append(
                order_row(
                    decided[look.claim.order_id],
                    payload_hash=look.read.payload_hash,
                    altered=look.read.altered,
                    cause=look.claim.cause,
                    notification_id=look.claim.notification_id,
                )
            )
        applied = [decided[order_id] for order_id in ids]
        parts = part_rows(one.snapshot for one in applied)
        await connection.execute(
            QUERIES.write_orders, to_json_text(rows), *(to_json_text(part) for part in parts), ids, payloads, now
        )
    if same:
        same.sort(key=lambda one: one.snapshot.order_id)
        await connection.execute(
            QUERIES.refresh_orders,
            [one.snapshot.order_id for one in same],
            [one.stamp.updated_at for one in same],
            [one.stamp.claimed_at for one in same],
            [one.rules_due_at for one in same],
            now,
        )


async def _write_changes(
    connection: Any, now: datetime, changes: Sequence[DiscrepancyChange], versions: Mapping[str, int]
) -> None:
    if changes:
        rows = [change_row(change, versions) for change in changes]
        await connection.execute(QUERIES.change_discrepancies, to_json_text(rows), now)


async def _settle(
    connection: Any, looks: Sequence[Look], settlements: Sequence[Settlement], decided: Mapping[str, Applied]
) -> set[str]:
    kept = [look for look in looks if look.unreadable_body is not None and look.failure is not None]
    if kept:
        await connection.execute(
            QUERIES.keep_unreadable_payload,
            [look.claim.order_id for look in kept],
            [look.claim.account for look in kept],
            [look.failure.message for look in kept if look.failure],
            [look.unreadable_body for look in kept],
        )
    healed = [
        look.claim.order_id
        for look in looks
        if look.read is not None and (look.claim.last_error or "").startswith("unreadable")
    ]
    if healed:
        await connection.execute(QUERIES.forget_unreadable_payload, healed)
    rows = [
        (
            look.claim.order_id,
            look.claim.lease_token,
            look.claim.generation,
            look.claim.claimed_at,
            settlement.due_at,
            settlement.attempts,
            settlement.troubles,
            settlement.failing_since,
            settlement.last_error,
            settlement.quarantine_reason,
            settlement.caught_up,
            look.claim.order_id in decided,
            settlement.outcome,
            settlement.detail,
            decided[look.claim.order_id].version if look.claim.order_id in decided else None,
            decided[look.claim.order_id].account if look.claim.order_id in decided else look.claim.account,
            look.claim.cause,
            look.claim.notification_id,
            settlement.keeps_quarantine,
        )
        for look, settlement in zip(looks, settlements, strict=True)
    ]
    rows_settled = await connection.fetch(QUERIES.settle_claims, *(list(column) for column in zip(*rows, strict=True)))
    settled = {row["order_id"] for row in rows_settled}
    orphaned = sorted((order_id, one.account) for order_id, one in decided.items() if order_id not in settled)
    if orphaned:
        await connection.execute(
            QUERIES.note_stored, [order_id for order_id, _ in orphaned], [account for _, account in orphaned]
        )
    return settled


def with_failure(look: Look, failure: Failure) -> Look:
    """The same claim, settled as failed: what was read could not be stored."""
    return replace(look, read=None, failure=failure)
