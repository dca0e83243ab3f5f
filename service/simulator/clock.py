"""The provider's clock: it can be set, moved and run at another speed; and the provider's way to write times."""

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

MILLISECOND = timedelta(milliseconds=1)
_DURATION = re.compile(r"^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$")


def floor_to(at: datetime, step: timedelta) -> datetime:
    """`at` cut down to a whole multiple of `step` (a divisor of one second)."""
    microseconds = step // timedelta(microseconds=1)
    return at.replace(microsecond=at.microsecond - at.microsecond % microseconds)


def format_time(at: datetime, digits: int = 3) -> str:
    """RFC 3339 UTC with `Z` and `digits` fraction digits (at most 6)."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond:06d}"[:digits] + "Z"


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with 0 to 9 fraction digits, in UTC. Raises `ValueError`."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"the time {text!r} has no offset; write it like 2026-09-14T13:05:22.727Z")
    return at.astimezone(UTC)


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration of weeks, days, hours, minutes and seconds (`PT15M`, `P1D`). Raises `ValueError`."""
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no ISO 8601 duration such as PT15M")
    weeks, days, hours, minutes, seconds = (Decimal(part or "0") for part in match.groups())
    return timedelta(
        days=int(weeks * 7 + days), hours=int(hours), minutes=int(minutes), milliseconds=int(seconds * 1000)
    )


class SimulatedClock:
    """Wall clock of the simulated provider, in UTC with millisecond steps."""

    def __init__(
        self,
        start: datetime | None = None,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._initial_speed = speed
        self._monotonic = monotonic
        self._speed = speed
        self._moved = asyncio.Event()
        self._origin = start or datetime.now(UTC)
        self._origin_seconds = monotonic()

    @property
    def speed(self) -> float:
        """Simulated seconds per real second; 0 is frozen."""
        return self._speed

    def now(self) -> datetime:
        """The simulated time."""
        elapsed = (self._monotonic() - self._origin_seconds) * self._speed
        return floor_to(self._origin + timedelta(seconds=elapsed), MILLISECOND)

    def reset(self) -> None:
        """Back to the configured start and speed."""
        self._move(self._start or datetime.now(UTC), self._initial_speed)

    def set(self, at: datetime) -> None:
        """Jump to `at`, also backwards."""
        self._move(at.astimezone(UTC), self._speed)

    def advance(self, seconds: float) -> None:
        """Jump by `seconds`."""
        self._move(self.now() + timedelta(seconds=seconds), self._speed)

    def set_speed(self, speed: float) -> None:
        """Run on from here at another speed."""
        self._move(self.now(), speed)

    async def wait_until(self, at: datetime) -> None:
        """Return once the simulated time has reached `at`, however it gets there."""
        while (missing := (at - self.now()).total_seconds()) > 0:
            moved = self._moved
            real_seconds = missing / self._speed + 0.001 if self._speed > 0 else None
            try:
                await asyncio.wait_for(moved.wait(), real_seconds)
            except TimeoutError:
                continue

    def _move(self, at: datetime, speed: float) -> None:
        self._origin, self._origin_seconds, self._speed = at, self._monotonic(), speed
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
