"""When an order is looked at, as data: for each kind of order a series of waits. Accounts may have their own.

Each wait of a series is stretched or shortened by up to a tenth (`jitter`), so an offset moves by less than a tenth of
itself and neighbours never overlap. A look that falls into the tenth around an offset has served that offset, so that
jitter makes no look twice; the last one of a finite series never comes early, so that its horizon is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple


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

    def looks_within(self, span: timedelta) -> int:
        """How many looks come after the anchor, up to `span` from it."""
        listed = sum(offset <= span for offset in self.offsets)
        last = self.offsets[-1] if self.offsets else timedelta()
        return listed + (max(0, (span - last) // self.every) if self.every is not None else 0)


def _seconds(*values: int) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=value) for value in values)


_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class LookTable:
    """What an order is × when it is looked at. The defaults are the contract's; an account may have its own.

    `open_in_person` and `open_online` count from the first sight and end at the expiry, `after_expiry` from there,
    `paid` and `closed` from the last change, `refund_in_process` from the refund's first sight.
    """

    open_in_person: Schedule = Schedule(_seconds(5, 15, 45, 2 * _MINUTE, 5 * _MINUTE), every=timedelta(minutes=5))
    open_online: Schedule = Schedule(_seconds(_MINUTE, 5 * _MINUTE, 30 * _MINUTE), every=timedelta(hours=6))
    after_expiry: Schedule = Schedule(_seconds(2, _MINUTE, 10 * _MINUTE, _HOUR, _DAY))
    # 180 and 360 days: the refund windows that the provider's pages name reach that far (fact sheet, §7.2).
    paid: Schedule = Schedule(_seconds(10 * _MINUTE, _DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY, 180 * _DAY, 360 * _DAY))
    closed: Schedule = Schedule(_seconds(_MINUTE, 10 * _MINUTE, _HOUR, _DAY))
    refund_in_process: Schedule = Schedule(
        _seconds(*range(_MINUTE, 10 * _MINUTE + 1, _MINUTE), *range(20 * _MINUTE, _DAY + 1, 10 * _MINUTE)),
        every=timedelta(days=1),
    )


DEFAULT_LOOKS = LookTable()

_LEAST_SECONDS, _MOST_SECONDS = 1, 400 * _DAY
_MOST_LOOKS = 1000


def read_look_table(value: object) -> LookTable:
    """An account's own table, like `{"paid": {"at_seconds": [600, 86400], "every_seconds": 2592000}}`.

    What is not named keeps its default; `every_seconds` goes on from the last offset without end. Raises `ValueError`
    with one line that says what is wrong.
    """
    names = [field.name for field in fields(LookTable)]
    if not isinstance(value, Mapping) or not all(name in names for name in value):
        raise ValueError(f"must be an object with any of {', '.join(names)}")
    return replace(DEFAULT_LOOKS, **{name: _schedule(name, series) for name, series in value.items()})


def _schedule(name: str, series: object) -> Schedule:
    if not isinstance(series, Mapping) or not series.keys() <= {"at_seconds", "every_seconds"}:
        raise ValueError(f"{name}: must be an object with at_seconds and, where it goes on, every_seconds")
    at = series.get("at_seconds")
    if not isinstance(at, list) or not 1 <= len(at) <= _MOST_LOOKS:
        raise ValueError(f"{name}.at_seconds: must be a list of 1 to {_MOST_LOOKS} numbers of seconds")
    offsets = tuple(_wait(f"{name}.at_seconds", one) for one in at)
    if any(late <= early for early, late in pairwise(offsets)):
        raise ValueError(f"{name}.at_seconds: must be ascending")
    every = series.get("every_seconds")
    return Schedule(offsets, None if every is None else _wait(f"{name}.every_seconds", every))


def _wait(place: str, value: object) -> timedelta:
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if not is_number or not _LEAST_SECONDS <= value <= _MOST_SECONDS:  # type: ignore[operator]  # a number, as just seen
        raise ValueError(f"{place}: must be numbers of seconds from {_LEAST_SECONDS} to {_MOST_SECONDS}")
    return timedelta(seconds=float(value))  # type: ignore[arg-type]  # as above


COUNTED_FOR = timedelta(days=360)
"""From an order's last change to the end of the refund windows: so long its looks are counted."""


class LooksOfALife(NamedTuple):
    """How many looks the schedule brings one order: within a day of its creation, and in all."""

    first_day: int
    in_all: int


def looks_of(table: LookTable = DEFAULT_LOOKS) -> dict[str, LooksOfALife]:
    """The schedule's looks at typical orders, from creation to `COUNTED_FOR` after the last change.

    Every change is told as it happens: the looks that notifications ask for come on top, and those that the schedule
    would bring later are spared. An order in person expires after 15 min, an online one after 30 days.
    """
    minute, hour, day = (timedelta(seconds=seconds) for seconds in (_MINUTE, _HOUR, _DAY))
    in_person, online = table.open_in_person, table.open_online
    lives: dict[str, tuple[tuple[Schedule, timedelta], ...]] = {
        "qr_paid": ((in_person, minute), (table.paid, COUNTED_FOR)),
        "qr_expired": ((in_person, 15 * minute), (table.closed, COUNTED_FOR)),
        "qr_partly_refunded": ((in_person, minute), (table.paid, 2 * day), (table.paid, COUNTED_FOR)),
        "online_paid": ((online, hour), (table.paid, COUNTED_FOR)),
        "online_expired": ((online, 30 * day), (table.closed, COUNTED_FOR)),
    }
    return {name: _looks_in(stretches) for name, stretches in lives.items()}


def looks_a_day(table: LookTable = DEFAULT_LOOKS, orders_a_day: int = 1000) -> int:
    """What `orders_a_day` QR orders, each paid in its first minute, cost every day once all ages are there.

    On such a day every look of a life falls on as many orders as are made in a day.
    """
    return orders_a_day * looks_of(table)["qr_paid"].in_all


def _looks_in(stretches: tuple[tuple[Schedule, timedelta], ...]) -> LooksOfALife:
    """`stretches`: which schedule holds, counted from its own beginning, and for how long. The next change ends one."""
    first_day = in_all = 0
    began = timedelta()
    for number, (schedule, span) in enumerate(stretches, start=1):
        # A look at the very moment of a change is the one that the change asks for.
        counted = span if number == len(stretches) else span - timedelta.resolution
        in_all += schedule.looks_within(counted)
        first_day += schedule.looks_within(min(counted, timedelta(seconds=_DAY) - began))
        began += span
    return LooksOfALife(first_day, in_all)
