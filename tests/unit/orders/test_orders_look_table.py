"""An account's own table of looks: what may be written, and that it decides."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.cli.config import cost_of_looks
from service.orders.look_table import (
    COUNTED_FOR,
    DEFAULT_LOOKS,
    LooksOfALife,
    LookTable,
    Schedule,
    looks_a_day,
    looks_of,
    read_look_table,
)
from service.orders.looks import next_look
from service.orders.snapshot import OrderSnapshot, Payment

NOW = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)


def test_what_is_not_named_keeps_its_default() -> None:
    table = read_look_table({"paid": {"at_seconds": [60, 3600], "every_seconds": 86400}})

    assert table.paid == Schedule((timedelta(minutes=1), timedelta(hours=1)), timedelta(days=1))
    assert table.open_in_person == DEFAULT_LOOKS.open_in_person
    assert read_look_table({}) == DEFAULT_LOOKS


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "must be an object"),
        ({"open": {"at_seconds": [1]}}, "any of open_in_person"),
        ({"paid": [1]}, "paid: must be an object"),
        ({"paid": {"at_seconds": []}}, "a list of 1 to 1000"),
        ({"paid": {"at_seconds": [60, 60]}}, "must be ascending"),
        ({"paid": {"at_seconds": [0]}}, "from 1 to"),
        ({"paid": {"at_seconds": [True]}}, "numbers of seconds"),
        ({"paid": {"at_seconds": [float("nan")]}}, "numbers of seconds"),
        ({"paid": {"at_seconds": [10**12]}}, "numbers of seconds"),
        ({"paid": {"at_seconds": [60], "every_seconds": "1 day"}}, "paid.every_seconds"),
        ({"paid": {"at_seconds": [60], "always": 1}}, "at_seconds and"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        read_look_table(value)

    assert "\n" not in str(refused.value)


def test_the_table_decides_when_an_order_is_looked_at() -> None:
    table = read_look_table({"paid": {"at_seconds": [120], "every_seconds": 3600}})
    order = OrderSnapshot("ORD1", status="processed", updated_at=NOW, payments=(Payment("PAY1", "processed"),))

    def look(after: timedelta) -> datetime | None:
        now = NOW + after
        return next_look(order, first_seen_at=NOW, changed_at=NOW, now=now, refund_first_seen={}, jitter=0, table=table)

    assert look(timedelta(seconds=1)) == NOW + timedelta(minutes=2)
    assert look(timedelta(days=500)) == NOW + timedelta(days=500, minutes=2) + timedelta(hours=1)


PAID = {"status": "processed", "payments": (Payment("PAY1", "processed"),)}
DAYS = timedelta(days=1)
# How an order lives: its type, and what becomes of it and when.
LIVES: dict[str, tuple[str, tuple[tuple[timedelta, dict[str, Any]], ...]]] = {
    "qr_paid": ("qr", ((timedelta(minutes=1), PAID),)),
    "qr_expired": ("qr", ((timedelta(minutes=15), {"status": "expired"}),)),
    "qr_partly_refunded": ("qr", ((timedelta(minutes=1), PAID), (timedelta(minutes=1) + 2 * DAYS, PAID))),
    "online_paid": ("online", ((timedelta(hours=1), PAID),)),
    "online_expired": ("online", ((30 * DAYS, {"status": "expired"}),)),
}
OWN_TABLES = [
    {},
    {"paid": {"at_seconds": [3600], "every_seconds": 7 * 86400}},
    {"open_in_person": {"at_seconds": [20], "every_seconds": 20}, "closed": {"at_seconds": [60, 86400, 90 * 86400]}},
    {"open_online": {"at_seconds": [3600, 7200]}, "paid": {"at_seconds": [60, 120, 400 * 86400]}},
]


def lived(table: LookTable, kind: str, changes: Sequence[tuple[timedelta, dict[str, Any]]]) -> LooksOfALife:
    """The life of one order, look by look: every change is told, the schedule does the rest."""
    order = OrderSnapshot("ORD1", type=kind, status="created", created_at=NOW, updated_at=NOW)
    now, ahead = NOW, [(NOW + after, fields) for after, fields in changes]
    looks: list[datetime] = []
    end = ahead[-1][0] + COUNTED_FOR
    while True:
        look = next_look(
            order,
            first_seen_at=NOW,
            changed_at=order.updated_at or NOW,
            now=now,
            refund_first_seen={},
            jitter=0,
            table=table,
        )
        if ahead and (look is None or look >= ahead[0][0]):
            now, fields = ahead.pop(0)
            order = replace(order, updated_at=now, **fields)
        elif look is None or look > end:
            return LooksOfALife(sum(one <= NOW + DAYS for one in looks), len(looks))
        else:
            now = look
            looks.append(look)


@pytest.mark.parametrize("own", OWN_TABLES)
def test_the_cost_that_is_told_is_the_cost_of_a_life(own: dict[str, Any]) -> None:
    table = read_look_table(own)
    assert looks_of(table) == {name: lived(table, kind, changes) for name, (kind, changes) in LIVES.items()}


def test_what_the_default_looks_cost() -> None:
    assert looks_of() == {
        "qr_paid": (4, 10),
        "qr_expired": (9, 10),
        "qr_partly_refunded": (4, 12),
        "online_paid": (4, 10),
        "online_expired": (6, 126),
    }
    assert (looks_a_day(), looks_a_day(orders_a_day=50)) == (10_000, 500)


def test_config_says_it_in_one_line() -> None:
    twice_as_many = read_look_table({"paid": {"at_seconds": [60 * number for number in range(1, 18)]}})
    assert cost_of_looks(DEFAULT_LOOKS) == (
        "looks: 10 a paid QR order over 360 days; 1,000 orders a day cost 10,000 looks a day"
    )
    assert cost_of_looks(twice_as_many).startswith("looks: 20 a paid QR order")
