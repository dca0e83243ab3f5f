"""When to look at an order again with no notification to ask for it: the schedules, as data.

A lost notification delays the truth and never hides it: an order whose money can still move always has a next look.
Every series is anchored at a moment (first seen, expiry, last change, a refund's first sight); what applies to an
order is combined, and the earliest look wins.

Each wait of a series is stretched or shortened by up to a tenth (`jitter`), so an offset moves by less than a tenth of
itself and neighbours never overlap. A look that falls into the tenth around an offset has served that offset, so that
jitter makes no look twice; the last one of a finite series never comes early, so that its horizon is kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.orders.lifecycle import CLOSED_STATUSES, OPEN_STATUSES, PAID_STATUSES, REFUND_PROCESSING, is_paid
from service.orders.snapshot import OrderSnapshot


@dataclass(frozen=True, slots=True)
class Schedule:
    """Looks at `offsets` (ascending) from an anchor; then, where given, one every so often from the last offset on."""

    offsets: tuple[timedelta, ...]
    every: timedelta | None = None

    def next_time(self, anchor: datetime, now: datetime, jitter: float) -> datetime | None:
        """The first look after `now`; None after the last one, or where it lies beyond the calendar."""
        try:
            return self._next_time(anchor, now, jitter)
        except OverflowError:
            return None

    def _next_time(self, anchor: datetime, now: datetime, jitter: float) -> datetime | None:
        before = anchor
        for place, offset in enumerate(self.offsets, start=1):
            nominal = anchor + offset
            slack = (nominal - before) / 10
            if place == len(self.offsets) and self.every is None:
                return nominal + slack * abs(jitter) if nominal > now else None
            if nominal - slack > now:
                return nominal + slack * jitter
            before = nominal
        if self.every is None:
            return None
        slack = self.every / 10
        repeats = max(0, (now - before + slack) // self.every) + 1
        return before + repeats * self.every + slack * jitter


def _seconds(*values: int) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=value) for value in values)


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC)

OPEN_IN_PERSON = Schedule(_seconds(5, 15, 45, 2 * _MINUTE, 5 * _MINUTE), every=timedelta(minutes=5))
OPEN_ONLINE = Schedule(_seconds(_MINUTE, 5 * _MINUTE, 30 * _MINUTE), every=timedelta(hours=6))
AFTER_EXPIRY = Schedule(_seconds(2, _MINUTE, 10 * _MINUTE, _HOUR, _DAY))
# Anchored at the last look of AFTER_EXPIRY.
DAILY_AFTER_EXPIRY = Schedule((), every=timedelta(days=1))
# 180 and 360 days: the refund windows that the provider's pages name reach that far (fact sheet, §7.2).
PAID = Schedule(_seconds(10 * _MINUTE, _DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY, 180 * _DAY, 360 * _DAY))
CLOSED = Schedule(_seconds(_MINUTE, 10 * _MINUTE, _HOUR, _DAY))
REFUND_IN_PROCESS = Schedule(
    _seconds(*range(_MINUTE, 10 * _MINUTE + 1, _MINUTE), *range(20 * _MINUTE, _DAY + 1, 10 * _MINUTE)),
    every=timedelta(days=1),
)

IN_PERSON_TYPES = frozenset({"qr", "point"})
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
        candidates.append(PAID.next_time(last_change, now, jitter))
    if closed:
        candidates.append(CLOSED.next_time(last_change, now, jitter))
    if snapshot.status in OPEN_STATUSES or not (paid or closed):
        candidates.extend(_open_looks(snapshot, first_seen_at, last_change, now, jitter))
    for refund in snapshot.refunds:
        if refund.status == REFUND_PROCESSING:
            seen = refund_first_seen.get(refund.refund_id, now)
            candidates.append(REFUND_IN_PROCESS.next_time(seen, now, jitter))
    return min((candidate for candidate in candidates if candidate is not None), default=None)


def _open_looks(
    snapshot: OrderSnapshot, first_seen_at: datetime, last_change: datetime, now: datetime, jitter: float
) -> Iterator[datetime | None]:
    """Looks up to expiry, after it, and daily to the horizon; of an unknown status, as if the order were online."""
    in_person = snapshot.type in IN_PERSON_TYPES and snapshot.status in OPEN_STATUSES
    if snapshot.expires_at is not None:
        expiry = snapshot.expires_at
    elif in_person:
        expiry = _later(snapshot.created_at or first_seen_at, DEFAULT_EXPIRY_IN_PERSON)
    else:
        expiry = _later(first_seen_at, DEFAULT_EXPIRY_ONLINE)
    waiting = (OPEN_IN_PERSON if in_person else OPEN_ONLINE).next_time(first_seen_at, now, jitter)
    if waiting is not None and waiting < expiry:
        yield waiting
    yield AFTER_EXPIRY.next_time(expiry, now, jitter)
    if now - last_change < OPEN_HORIZON:
        yield DAILY_AFTER_EXPIRY.next_time(_later(expiry, AFTER_EXPIRY.offsets[-1]), now, jitter)


def _later(moment: datetime, wait: timedelta) -> datetime:
    """`moment + wait`, at most the last moment of the calendar: the provider's times may be absurd."""
    return moment + min(wait, _LAST_MOMENT - moment)
