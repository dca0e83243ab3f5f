"""Applying looks: one transaction per natural batch, set-based, in one global lock order.

The order of a transaction: advisory locks on orders and references (sorted), what is stored, the pure decisions, the
writes, and last the `sync` rows. Either all of a batch's changes, versions, discrepancies, events and settled claims
are committed, or none is (invariants I3, I5, I6, I7).

The rules see what was asked here of the order (commands) as it is committed when the lock is granted. Whoever commits
a command's outcome does so under the same lock and marks the order due: see `locks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import random
from typing import Any

from service.database.pool import Database
from service.mercadopago.payer import order_without_payer
from service.mercadopago.reader import ReadOrder
from service.orders.asked import AskedCommand
from service.orders.looks import next_look
from service.sync.by_payments import READ_BY_PAYMENTS
from service.sync.changes import NOTHING_LEFT, Applied, DiscrepancyChange, LeftOver, StoredOrder, changes_within, decide
from service.sync.claims import QUERIES, STORED, Claim
from service.sync.duplicates import duplicate_changes
from service.sync.judging import write_changes
from service.sync.legacy_expiry import with_legacy_expiries
from service.sync.locks import REFERENCE_ROUNDS, ReferenceMovedError, lock
from service.sync.lost import read_left_over
from service.sync.payment_hints import PaymentTold, settle_hints
from service.sync.policies import AccountPolicies, LookPolicy, RefundPolicy, default_looks, no_policy
from service.sync.rows import asked_commands, order_row, part_rows, stored_order, to_json_text
from service.sync.settle import Failure, Settlement, second_look, settle_failure, settle_success

STALE_ANSWER_LOOK = timedelta(seconds=60)
OLDER = "older: the answer is dated before what is stored, which stands"


@dataclass(frozen=True, slots=True)
class Look:
    """One claim served: an order that was read, a payment that tells whose it is, or the failure that came instead."""

    claim: Claim
    read: ReadOrder | None = None
    told: PaymentTold | None = None
    failure: Failure | None = None
    others_succeed: bool = False
    unreadable_body: str | None = None
    # The order itself is shown no more: `read` is its last document, of this hash, with its payments laid over it.
    laid_over: bytes | None = None


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


async def apply_looks(
    database: Database,
    looks: Sequence[Look],
    *,
    refunds_only_here_since: RefundPolicy = no_policy,
    look_table: LookPolicy = default_looks,
) -> list[Outcome]:
    """Applies and settles a batch in one transaction. Raises what the database raises: then nothing was committed.

    `refunds_only_here_since` and `look_table` are the accounts' policies: see `policies`.

    Two looks at one order cannot be in one batch: the lease holds one, and a second claim after a lost lease is
    applied on its own turn, where the fence decides.
    """
    policies: AccountPolicies = {
        "refunds_only_here_since": refunds_only_here_since,
        "look_table": look_table,
    }
    latest = {look.claim.order_id: look for look in sorted(looks, key=lambda look: look.claim.claimed_at)}
    first = await _apply(database, list(latest.values()), policies)
    outcomes = {id(look): one for look, one in zip(latest.values(), first, strict=True)}
    answers = []
    for look in looks:
        if id(look) not in outcomes:
            outcomes[id(look)] = (await _apply(database, [look], policies))[0]
        answers.append(outcomes[id(look)])
    return answers


async def _apply(database: Database, looks: Sequence[Look], policies: AccountPolicies) -> list[Outcome]:
    references = {
        (look.claim.account, look.read.snapshot.external_reference)
        for look in looks
        if look.read is not None and look.read.snapshot.external_reference
    }
    for _ in range(REFERENCE_ROUNDS):
        try:
            async with database.transaction() as connection:
                return await _apply_in(connection, looks, references, policies)
        except ReferenceMovedError as moved:
            references |= moved.references
    raise RuntimeError("references of one batch kept moving; it will be looked at again")


async def _apply_in(
    connection: Any, looks: Sequence[Look], references: set[tuple[str, str]], policies: AccountPolicies
) -> list[Outcome]:
    if any(look.read is not None for look in looks):
        now, standing = await _read_standing(connection, looks, references)
    else:
        now, standing = await connection.fetchval(QUERIES.database_now), {}
    looks = await with_legacy_expiries(connection, looks)
    looks = [_without_erased_payer(look, standing.get(look.claim.order_id)) for look in looks]
    read = [look for look in looks if look.read is not None]
    decided = {look.claim.order_id: _decide(look, standing[look.claim.order_id], now, policies) for look in read}
    await _write_orders(connection, now, read, decided)
    applied = list(decided.values())
    changes = changes_within(applied) + await duplicate_changes(connection, applied)
    await write_changes(connection, now, changes, {one.snapshot.order_id: one.version for one in applied})
    hints = await settle_hints(connection, looks)
    settlements = [
        hints.get(look.claim.order_id) or _settlement(look, decided.get(look.claim.order_id), now, policies)
        for look in looks
    ]
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


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the next decision about an order starts from: what is stored, if it is, and what was asked here of it."""

    stored: StoredOrder | None
    commands: tuple[AskedCommand, ...]
    payer_erased: bool = False
    left: LeftOver = NOTHING_LEFT


async def _read_standing(
    connection: Any, looks: Sequence[Look], references: set[tuple[str, str]]
) -> tuple[datetime, dict[str, _Standing]]:
    """Locks the orders that were read and their references; the time of the locks, and what stands, by order id.

    Raises `ReferenceMovedError` where that tells of references that are not locked.
    """
    named = {look.claim.order_id: look.read.snapshot.external_reference for look in looks if look.read is not None}
    ids = list(named)
    now = await lock(connection, ids, references)
    rows = await connection.fetch(QUERIES.read_stored_orders, ids, [])
    were_stored = {look.claim.order_id for look in looks if look.claim.trust >= STORED}
    left = await read_left_over(connection, rows, were_stored)
    standing = {
        row["order_id"]: _Standing(
            stored_order(row),
            asked_commands(row),
            row["payer_erased"] is True,
            left.get(row["order_id"], NOTHING_LEFT),
        )
        for row in rows
    }
    # A stored order keeps its account, which need not be the one that the claim was made for.
    needed = {
        (one.stored.account, reference)
        for order_id, one in standing.items()
        if one.stored is not None
        for reference in (one.stored.external_reference, named[order_id])
        if reference
    }
    if needed - references:
        raise ReferenceMovedError(needed - references)
    return now, standing


def _without_erased_payer(look: Look, standing: _Standing | None) -> Look:
    """Who was erased stays away, also where the account keeps payers."""
    if look.read is None or standing is None or not standing.payer_erased:
        return look
    return replace(look, read=order_without_payer(look.read))


def _decide(look: Look, standing: _Standing, now: datetime, policies: AccountPolicies) -> Applied:
    assert look.read is not None
    return decide(
        look.read,
        account=look.claim.account,
        claimed_at=look.claim.claimed_at,
        stored=standing.stored,
        now=now,
        commands=standing.commands,
        refunds_only_here_since=policies["refunds_only_here_since"],
        laid_over=look.laid_over,
        left=standing.left,
    )


def _settlement(look: Look, applied: Applied | None, now: datetime, policies: AccountPolicies) -> Settlement:
    if applied is None:
        assert look.failure is not None
        return settle_failure(look.claim, look.failure, now=now, random=random(), others_succeed=look.others_succeed)
    stored = applied.stored
    older = applied.outcome == "older"
    second = second_look(look.claim, applied.outcome, now)
    if older and (stored is None or stored.document_stamp is None):
        # A stale read at the provider: what is stored stays, and a fresh look is owed soon.
        return settle_success("older", now + STALE_ANSWER_LOOK, second_look=second, last_error=OLDER)
    changed_now = applied.outcome == "applied"
    due_at = next_look(
        applied.snapshot,
        first_seen_at=stored.first_seen_at if stored else now,
        changed_at=now if changed_now or stored is None else stored.changed_at,
        now=now,
        refund_first_seen=applied.history.refund_first_seen,
        jitter=random() * 2 - 1,
        table=policies["look_table"](applied.account),
    )
    # An old order that is shown again as it was when its payments had moved on already: there is no hurry.
    settlement = settle_success(applied.outcome, due_at, second_look=second, last_error=OLDER if older else None)
    return replace(settlement, detail=READ_BY_PAYMENTS) if look.laid_over is not None else settlement


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
            settlement.answers_mark,
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
    return replace(look, read=None, told=None, failure=failure, laid_over=None)
