"""An account's own table of looks: what may be written, and that it decides."""

from datetime import UTC, datetime, timedelta

import pytest

from service.orders.look_table import DEFAULT_LOOKS, Schedule, read_look_table
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
