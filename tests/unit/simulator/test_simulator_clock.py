"""The provider's clock, and its way to write times and durations."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from service.simulator.clock import SimulatedClock, floor_to, format_time, parse_duration, parse_time

START = datetime(2026, 9, 14, 12, 0, tzinfo=UTC)


class HandTurned:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_it_runs_jumps_and_stands() -> None:
    real = HandTurned()
    clock = SimulatedClock(START, monotonic=real)
    real.seconds += 2
    assert clock.now() == START + timedelta(seconds=2)
    clock.set_speed(60)
    real.seconds += 1
    assert clock.now() == START + timedelta(seconds=62)
    clock.set_speed(0)
    real.seconds += 1000
    assert clock.now() == START + timedelta(seconds=62)
    clock.advance(8)
    assert clock.now() == START + timedelta(seconds=70)
    clock.set(datetime(2026, 1, 1, 9, 0, tzinfo=timezone(timedelta(hours=-3))))
    assert clock.now() == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    clock.reset()
    real.seconds += 1
    assert (clock.now(), clock.speed) == (START + timedelta(seconds=1), 1.0)


async def test_who_waits_is_woken_by_a_jump() -> None:
    clock = SimulatedClock(START, speed=0)
    waiting = asyncio.create_task(clock.wait_until(START + timedelta(hours=6)))
    clock.advance(3600)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(6 * 3600)
    await asyncio.wait_for(waiting, 5)


async def test_who_waits_is_woken_by_speed() -> None:
    clock = SimulatedClock(START, speed=36_000)
    await asyncio.wait_for(clock.wait_until(START + timedelta(hours=1)), 5)
    assert clock.now() >= START + timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-09-14T13:09:02Z", 0),
        ("2026-09-14T13:09:02.39Z", 390_000),
        ("2026-09-14T13:09:02.390Z", 390_000),
        ("2026-09-14T13:09:02.390123456Z", 390_123),
        ("2026-09-14T10:09:02.390-03:00", 390_000),
    ],
)
def test_times_are_read_with_any_fraction_and_offset(text: str, microsecond: int) -> None:
    assert parse_time(text) == datetime(2026, 9, 14, 13, 9, 2, microsecond, tzinfo=UTC)


def test_times_are_written_with_as_many_digits_as_asked() -> None:
    at = datetime(2026, 9, 14, 13, 9, 2, 390_120, tzinfo=UTC)
    assert (format_time(at), format_time(at, 2)) == ("2026-09-14T13:09:02.390Z", "2026-09-14T13:09:02.39Z")
    assert floor_to(at, timedelta(milliseconds=1)).microsecond == 390_000


def test_durations() -> None:
    assert parse_duration("PT15M") == timedelta(minutes=15)
    assert parse_duration("P1DT2H3.5S") == timedelta(days=1, hours=2, seconds=3.5)
    assert parse_duration("P2W") == timedelta(days=14)
    for wrong in ("P", "15M", "PT", "PTXS", ""):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(wrong)
