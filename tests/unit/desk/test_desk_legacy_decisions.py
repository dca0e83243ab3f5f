"""What the legacy QR decides without I/O: when to look for a sale, what is left of its time, whether it is the same."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.desk.legacy import is_same_sale, seconds_left, sync_id
from service.desk.legacy_watch import WATCHED_FOR, next_watch
from service.orders.looks import AFTER_EXPIRY, OPEN_IN_PERSON

SENT = datetime(2026, 9, 14, 12, 0, 0, tzinfo=UTC)
EXPIRES = SENT + timedelta(seconds=600)


def test_the_looks_of_a_sale_that_nobody_scans() -> None:
    now, looks = SENT, []
    while (due := next_watch(SENT, EXPIRES, now, 0.0)) is not None:
        looks.append((due - SENT).total_seconds())
        now = due
    after = [600 + one.total_seconds() for one in AFTER_EXPIRY.offsets]
    assert looks == [*(one.total_seconds() for one in OPEN_IN_PERSON.offsets), *after]


@given(
    st.integers(1, 86_400),
    st.floats(0, 200_000, allow_nan=False),
    st.floats(-1, 1, allow_nan=False),
)
def test_a_watch_is_always_ahead_and_ends_in_time(ttl: int, later: float, jitter: float) -> None:
    expires, now = SENT + timedelta(seconds=ttl), SENT + timedelta(seconds=later)
    due = next_watch(SENT, expires, now, jitter)
    if now >= expires + WATCHED_FOR:
        assert due is None
    else:
        assert due is not None, "until a day after its end a sale is looked for"
        assert due > now


@pytest.mark.parametrize(("left", "expected"), [(600, 600), (0.2, 1), (1.0001, 2), (-5, 1)])
def test_what_is_left_is_whole_seconds_and_never_none(left: float, expected: int) -> None:
    assert seconds_left(SENT + timedelta(seconds=left), SENT) == expected


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        ({"external_reference": "venta-1", "total_amount": Decimal("51.00")}, True),
        ({"external_reference": "venta-1", "total_amount": 51}, True),
        ({"external_reference": "venta-1", "total_amount": Decimal("51.01")}, False),
        ({"external_reference": "venta-2", "total_amount": 51}, False),
        ({"external_reference": "venta-1", "total_amount": None}, False),
        ({"external_reference": "venta-1", "total_amount": "much"}, False),
        ({}, False),
    ],
)
def test_the_same_sale_has_the_same_reference_and_the_same_total(current: dict[str, object], expected: bool) -> None:
    assert is_same_sale(current, "venta-1", Decimal("51.00")) is expected


def test_ids() -> None:
    assert sync_id("44") == sync_id("MO44") == "MO44"
