"""The next look: the contract's table example by example, always in the future, never missing while money can move."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.orders.lifecycle import CLOSED_STATUSES, KNOWN_STATUSES, OPEN_STATUSES, is_paid
from service.orders.looks import next_look
from service.orders.snapshot import OrderSnapshot
from tests.unit.orders.orders_samples import NOW, order, paid, refund, unpaid

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
TICK = timedelta.resolution


def look(
    snapshot: OrderSnapshot,
    after: timedelta = timedelta(0),
    *,
    jitter: float = 0.0,
    refunds: Mapping[str, datetime] | None = None,
) -> timedelta | None:
    """The next look of an order first seen and last changed at NOW, both as waits since NOW."""
    found = next_look(
        snapshot,
        first_seen_at=NOW,
        changed_at=NOW,
        now=NOW + after,
        refund_first_seen={"REF1": NOW} if refunds is None else refunds,
        jitter=jitter,
    )
    return None if found is None else found - NOW


def looks(snapshot: OrderSnapshot, count: int, *, start: timedelta = timedelta(0)) -> list[timedelta | None]:
    """The next `count` looks, each asked for at the moment of the one before."""
    found: list[timedelta | None] = []
    after = start
    for _ in range(count):
        wait = look(snapshot, after)
        found.append(wait)
        if wait is None:
            break
        after = wait
    return found


def waits(*texts: str) -> list[timedelta | None]:
    units = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
    return [None if text == "-" else sum((int(part[:-1]) * units[part[-1]] for part in text.split("+")), timedelta())
            for text in texts]  # fmt: skip


@pytest.mark.parametrize("kind", ["qr", "point"])
@pytest.mark.parametrize("status", sorted(OPEN_STATUSES))
def test_open_in_person_order(kind: str, status: str) -> None:
    snapshot = order(status, unpaid(), type=kind, expires_at=NOW + 16 * MINUTE)
    assert looks(snapshot, 14) == waits(
        *("5s", "15s", "45s", "2m", "5m", "10m", "15m"),
        *("16m+2s", "17m", "26m", "1h+16m", "1d+16m", "2d+16m", "3d+16m"),
    )


def test_open_in_person_order_without_expiry_has_15_minutes_from_its_creation() -> None:
    assert looks(order("created", unpaid()), 9)[5:] == waits("10m", "15m+2s", "16m", "25m")
    early = order("created", unpaid(), created_at=NOW - 12 * MINUTE)
    assert looks(early, 7) == waits("5s", "15s", "45s", "2m", "3m+2s", "4m", "13m")


@pytest.mark.parametrize("kind", ["online", "a_new_type", None])
@pytest.mark.parametrize("status", sorted(OPEN_STATUSES))
def test_open_online_order(kind: str | None, status: str) -> None:
    snapshot = order(status, unpaid(), type=kind, expires_at=NOW + 24 * HOUR)
    assert looks(snapshot, 13) == waits(
        *("1m", "5m", "30m", "6h+30m", "12h+30m", "18h+30m"),
        *("1d+2s", "1d+1m", "1d+10m", "1d+1h", "2d", "3d", "4d"),
    )


def test_open_online_order_without_expiry_has_30_days_from_first_sight() -> None:
    snapshot = order("action_required", unpaid(), type="online", created_at=NOW - 20 * DAY)
    assert looks(snapshot, 3, start=29 * DAY + 17 * HOUR) == waits("29d+18h+30m", "30d+2s", "30d+1m")


@pytest.mark.parametrize("status", ["a_new_status", "", None])
@pytest.mark.parametrize("kind", ["qr", "online"])
def test_unknown_status_is_looked_at_like_an_open_online_order(status: str | None, kind: str) -> None:
    snapshot = order(status, unpaid(), type=kind)
    assert looks(snapshot, 4) == waits("1m", "5m", "30m", "6h+30m")
    assert looks(order(status, paid(), type=kind), 3) == waits("10m", "1d", "7d")


def test_open_order_is_looked_at_daily_until_90_days_after_its_last_change() -> None:
    snapshot = order("action_required", unpaid(), expires_at=NOW + 15 * MINUTE)
    assert look(snapshot, 89 * DAY + 12 * HOUR) == 90 * DAY + 15 * MINUTE
    assert look(snapshot, 90 * DAY - TICK) is not None
    assert look(snapshot, 90 * DAY) is None
    changed = order("action_required", unpaid(), expires_at=NOW - 200 * DAY, updated_at=NOW - 90 * DAY + TICK)
    assert look(changed) == DAY
    assert look(changed, TICK) is None
    long_lived = order("created", unpaid(), expires_at=NOW + 150 * DAY, updated_at=NOW - DAY)
    assert looks(long_lived, 9, start=150 * DAY - 11 * MINUTE) == waits(
        "149d+23h+50m", "149d+23h+55m", "150d+2s", "150d+1m", "150d+10m", "150d+1h", "151d", "-"
    )


@pytest.mark.parametrize("status", ["processed", "refunded", "charged_back"])
@pytest.mark.parametrize("kind", ["qr", "online", None])
def test_paid_order(status: str, kind: str | None) -> None:
    expected = waits("10m", "1d", "7d", "30d", "90d", "180d", "360d", "-")
    assert looks(order(status, paid(status=status), type=kind), 9) == expected
    assert looks(order(status, type=kind), 9) == expected


def test_paid_order_counts_from_the_providers_last_change() -> None:
    snapshot = order("processed", paid(), updated_at=NOW - 8 * DAY)
    assert looks(snapshot, 2) == waits("22d", "82d")
    from_the_future = order("processed", paid(), updated_at=NOW + 900 * DAY)
    assert looks(from_the_future, 2) == waits("10m", "1d")


@pytest.mark.parametrize("status", sorted(CLOSED_STATUSES))
def test_closed_order(status: str) -> None:
    assert looks(order(status, unpaid(status=status)), 6) == waits("1m", "10m", "1h", "1d", "-")
    old = order(status, unpaid(status=status), updated_at=NOW - DAY)
    assert looks(old, 1) == [None]


def test_closed_or_open_order_with_money_is_looked_at_for_both() -> None:
    assert looks(order("expired", paid()), 6) == waits("1m", "10m", "1h", "1d", "7d", "30d")
    half_paid = order("action_required", paid(), unpaid("PAY2"), type="online", expires_at=NOW + HOUR)
    assert looks(half_paid, 6) == waits("1m", "5m", "10m", "30m", "1h+2s", "1h+1m")


def test_refund_in_processing() -> None:
    snapshot = order("processed", paid(), refunds=(refund(of="1.00", status="processing"),))
    assert looks(snapshot, 12) == waits(*(f"{minute}m" for minute in range(1, 11)), "20m", "30m")
    assert looks(snapshot, 4, start=23 * HOUR + 45 * MINUTE) == waits("23h+50m", "1d", "2d", "3d")
    assert looks(snapshot, 2, start=4000 * DAY) == waits("4001d", "4002d")
    assert looks(order("processed", paid(), refunds=(refund(status="failed"),)), 1) == waits("10m")


def test_several_refunds_and_one_never_told_of_are_combined() -> None:
    pending = tuple(refund(name, of="1.00", status="processing") for name in ("REF1", "REF2"))
    snapshot = order("processed", paid(), refunds=pending)
    seen = {"REF1": NOW - 12 * MINUTE, "REF2": NOW - 25 * MINUTE}
    assert look(snapshot, refunds=seen) == 5 * MINUTE
    assert look(snapshot, 5 * MINUTE, refunds=seen) == 8 * MINUTE
    assert look(snapshot, 400 * DAY, refunds={}) == 400 * DAY + MINUTE
    assert look(order("canceled", unpaid(), refunds=pending), 400 * DAY, refunds={}) is not None


@pytest.mark.parametrize(
    ("jitter", "expected"), [(-1.0, "9s"), (0.5, "10s+500000"), (0.0, "10s"), (1.0, "11s"), (-0.5, "9s+500000")]
)
def test_jitter_stretches_each_wait_by_a_tenth(jitter: float, expected: str) -> None:
    seconds, _, micros = expected.partition("+")
    wait = timedelta(seconds=int(seconds[:-1]), microseconds=int(micros or 0))
    # 15 s is a wait of 10 s after the look at 5 s.
    assert look(order("created", unpaid()), 5 * SECOND, jitter=jitter) == 5 * SECOND + wait


def test_a_look_within_the_tenth_has_served_its_offset_but_the_last_never_comes_early() -> None:
    snapshot = order("processed", paid())
    assert look(snapshot, jitter=-1.0) == 9 * MINUTE
    assert look(snapshot, 9 * MINUTE - TICK, jitter=0.3) == 10 * MINUTE + 18 * SECOND
    assert look(snapshot, 9 * MINUTE, jitter=0.3) == DAY + 0.03 * (DAY - 10 * MINUTE)
    for now in (180 * DAY, 359 * DAY, 360 * DAY - TICK):
        assert look(snapshot, now, jitter=-1.0) == 378 * DAY
    assert look(snapshot, 360 * DAY, jitter=-1.0) is None


@pytest.mark.parametrize("jitter", [-1.01, 1.01, float("nan"), float("inf")])
def test_jitter_out_of_bounds_is_refused(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter must be between -1 and 1"):
        look(order("created", unpaid()), jitter=jitter)


def test_times_at_the_end_of_the_calendar_are_survived() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    snapshot = order("created", unpaid(), expires_at=end, updated_at=end, created_at=end)
    assert looks(snapshot, 2) == waits("5s", "15s")
    assert looks(order("created", unpaid(), created_at=end, updated_at=end), 2) == waits("5s", "15s")
    start = datetime.min.replace(tzinfo=UTC)
    assert looks(order("created", unpaid(), expires_at=start, updated_at=start, created_at=start), 1) == [None]


# Properties

MOMENTS = st.integers(-400 * 86400, 400 * 86400).map(lambda seconds: NOW + timedelta(seconds=seconds))
NEAR = st.integers(-7200, 7200).map(lambda seconds: NOW + timedelta(seconds=seconds))
TIMES = st.one_of(NEAR, MOMENTS)
PAYMENTS = st.lists(
    st.sampled_from([unpaid(), paid("PAY2"), paid("PAY3", status="charged_back"), unpaid("PAY4", status="failed")]),
    max_size=2,
)
REFUNDS = st.lists(
    st.sampled_from(
        [refund(name, status=status) for name in ("REF1", "REF2") for status in ("processing", "processed")]
    ),
    max_size=2,
)


@st.composite
def orders(draw: st.DrawFn) -> OrderSnapshot:
    return order(
        draw(st.sampled_from([*sorted(KNOWN_STATUSES), "a_new_status", None])),
        *draw(PAYMENTS),
        refunds=tuple(draw(REFUNDS)),
        type=draw(st.sampled_from(["qr", "point", "online", None])),
        created_at=draw(st.none() | TIMES),
        updated_at=draw(st.none() | TIMES),
        expires_at=draw(st.none() | TIMES),
    )


def can_still_move(snapshot: OrderSnapshot, first_seen_at: datetime, changed_at: datetime, now: datetime) -> bool:
    last_change = min(snapshot.updated_at or changed_at, changed_at)
    if any(item.status == "processing" for item in snapshot.refunds):
        return True
    if snapshot.status in {"processed", "refunded", "charged_back"} or any(map(is_paid, snapshot.payments)):
        return now < last_change + 360 * DAY
    if snapshot.status in CLOSED_STATUSES:
        return now < last_change + DAY
    expiry = snapshot.expires_at or first_seen_at + 15 * MINUTE
    return now < max(expiry + DAY, last_change + 90 * DAY)


JITTERS = st.floats(-1, 1)


@given(orders(), TIMES, TIMES, TIMES, JITTERS, st.dictionaries(st.sampled_from(["REF1", "REF2"]), TIMES))
def test_next_look_is_in_the_future_and_there_while_money_can_move(
    snapshot: OrderSnapshot,
    first_seen_at: datetime,
    changed_at: datetime,
    now: datetime,
    jitter: float,
    seen: dict[str, datetime],
) -> None:
    found = next_look(
        snapshot,
        first_seen_at=first_seen_at,
        changed_at=changed_at,
        now=now,
        refund_first_seen=seen,
        jitter=jitter,
    )
    assert found is None or found > now
    if snapshot.expires_at is None and snapshot.created_at is not None:
        return  # the default expiry then counts from the creation
    assert found is not None or not can_still_move(snapshot, first_seen_at, changed_at, now)


@given(orders(), st.tuples(TIMES, TIMES).map(sorted), JITTERS)
def test_next_look_never_goes_back_as_time_goes_on(
    snapshot: OrderSnapshot, moments: list[datetime], jitter: float
) -> None:
    earlier, later = (look(snapshot, moment - NOW, jitter=jitter) for moment in moments)
    if earlier is None:
        assert later is None
    elif later is not None:
        assert earlier <= later


@given(st.lists(JITTERS, min_size=60, max_size=60), st.sampled_from(["created", "processed", "expired"]))
@example([1.0] * 60, "created")
@example([-1.0] * 60, "created")
@example([-1.0, 1.0] * 30, "created")
def test_jitter_makes_no_look_twice_and_skips_none(jitters: list[float], status: str) -> None:
    snapshot = order(status, paid() if status == "processed" else unpaid(), expires_at=NOW + 2 * HOUR)
    steady = [wait for wait in looks(snapshot, 60) if wait is not None]
    jittered = list(_walk(snapshot, iter(jitters)))
    assert jittered == sorted(set(jittered))
    assert len(jittered) == len(steady) or status == "created"  # at expiry one more or less may fit in
    last = timedelta(0)
    for wait, nominal in zip(jittered, steady, strict=False):
        if status == "created" and nominal > 2 * HOUR - 5 * MINUTE:
            break
        assert abs(wait - nominal) <= (nominal - last) / 10 + TICK
        last = nominal


def _walk(snapshot: OrderSnapshot, jitters: Iterator[float]) -> Iterator[timedelta]:
    after = timedelta(0)
    for jitter in jitters:
        wait = look(snapshot, after, jitter=jitter)
        if wait is None:
            return
        yield wait
        after = wait
