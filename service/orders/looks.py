"""When to look at an order again with no notification to ask for it.

A lost notification delays the truth and never hides it: an order whose money can still move always has a next look.
Every series of the table is anchored at a moment (first seen, expiry, last change, a refund's first sight); what
applies to an order is combined, and the earliest look wins.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from service.orders.lifecycle import CLOSED_STATUSES, OPEN_STATUSES, PAID_STATUSES, REFUND_PROCESSING, is_paid
from service.orders.look_table import DEFAULT_LOOKS, LookTable, Schedule
from service.orders.snapshot import OrderSnapshot

_LAST_MOMENT = datetime.max.replace(tzinfo=UTC)

OPEN_IN_PERSON = DEFAULT_LOOKS.open_in_person
AFTER_EXPIRY = DEFAULT_LOOKS.after_expiry
# Anchored at the last look after the expiry.
DAILY_AFTER_EXPIRY = Schedule((), every=timedelta(days=1))

IN_PERSON_TYPES = frozenset({"qr", "point", "legacy_qr"})
# Where an order gives no expiry: in person from its creation (the provider's default), else from first sight.
DEFAULT_EXPIRY_IN_PERSON = timedelta(minutes=15)
DEFAULT_EXPIRY_ONLINE = timedelta(days=30)
# An order that is still open so long after its last change is given up.
OPEN_HORIZON = timedelta(days=90)


def next_look(
    snapshot: OrderSnapshot,
    *,
    first_seen_at: datetime,
    changed_at: datetime,
    now: datetime,
    refund_first_seen: Mapping[str, datetime],
    jitter: float,
    table: LookTable = DEFAULT_LOOKS,
) -> datetime | None:
    """When to look at the order next, always after `now`; None where its money can move no more.

    `first_seen_at` and `changed_at` are when we first saw the order and its present content; the last change is the
    provider's `updated_at`, else `changed_at`, and never later than `changed_at`. `refund_first_seen` is keyed by
    refund id. `jitter` is in [-1, 1], else `ValueError`.
    """
    if not -1 <= jitter <= 1:
        raise ValueError(f"jitter must be between -1 and 1, not {jitter}")
    last_change = changed_at if snapshot.updated_at is None else min(snapshot.updated_at, changed_at)
    paid = snapshot.status in PAID_STATUSES or any(map(is_paid, snapshot.payments))
    closed = snapshot.status in CLOSED_STATUSES
    candidates: list[datetime | None] = []
    if paid:
        candidates.append(table.paid.next_time(last_change, now, jitter))
    if closed:
        candidates.append(table.closed.next_time(last_change, now, jitter))
    if snapshot.status in OPEN_STATUSES or not (paid or closed):
        candidates.extend(_open_looks(snapshot, table, first_seen_at, last_change, now, jitter))
    for refund in snapshot.refunds:
        if refund.status == REFUND_PROCESSING:
            seen = refund_first_seen.get(refund.refund_id, now)
            candidates.append(table.refund_in_process.next_time(seen, now, jitter))
    return min((candidate for candidate in candidates if candidate is not None), default=None)


def _open_looks(
    snapshot: OrderSnapshot,
    table: LookTable,
    first_seen_at: datetime,
    last_change: datetime,
    now: datetime,
    jitter: float,
) -> Iterator[datetime | None]:
    """Looks up to expiry, after it, and daily to the horizon; of an unknown status, as if the order were online."""
    in_person = snapshot.type in IN_PERSON_TYPES and snapshot.status in OPEN_STATUSES
    if snapshot.expires_at is not None:
        expiry = snapshot.expires_at
    elif in_person:
        expiry = _later(snapshot.created_at or first_seen_at, DEFAULT_EXPIRY_IN_PERSON)
    else:
        expiry = _later(first_seen_at, DEFAULT_EXPIRY_ONLINE)
    waiting = (table.open_in_person if in_person else table.open_online).next_time(first_seen_at, now, jitter)
    if waiting is not None and waiting < expiry:
        yield waiting
    yield table.after_expiry.next_time(expiry, now, jitter)
    if now - last_change < OPEN_HORIZON:
        yield DAILY_AFTER_EXPIRY.next_time(_later(expiry, table.after_expiry.offsets[-1]), now, jitter)


def _later(moment: datetime, wait: timedelta) -> datetime:
    """`moment + wait`, at most the last moment of the calendar: the provider's times may be absurd."""
    return moment + min(wait, _LAST_MOMENT - moment)
