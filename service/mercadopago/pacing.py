"""Pure: how many fetches one account may start now, and how long a failed one waits.

One `AccountGate` per account and process. It is a token bucket with a second, smaller one for orders that only
unverified notifications speak of; over both stand a breaker (the provider is down), a refusal (the token is not
accepted) and a rate limit (429). Times are seconds of a monotonic clock that the caller reads. Numbers are the
contract's ("Pace").

While the gate is shut one probe at a time tells whether things are well again. A probe begins with `take` and ends with
the report of its outcome; one that is never reported (its task was cancelled) counts as lost after a while, so nothing
can keep the gate shut for good.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from service.mercadopago.errors import ProviderTrouble, RateLimited

ShutReason = Literal["outage", "refused"]
PauseReason = Literal["outage", "refused", "rate_limited"]

BREAKER_FAILURES = 10
# Seconds before the first probe and, doubling, before any later one at most.
_STEPS: dict[ShutReason, tuple[float, float]] = {"outage": (5.0, 60.0), "refused": (30.0, 300.0)}
# Probes come up to this much later, so that a fleet of processes does not knock at once.
PROBE_JITTER = 0.1
# Well past the client's own time-out: by then nobody is waiting for the answer.
PROBE_LOST_SECONDS = 30.0
BURST_SECONDS = 0.2
RATE_FLOOR = 0.5
# Answers to calls that were already under way say nothing new: one halving for all of them.
HALVE_AT_MOST_EVERY_SECONDS = 1.0
QUIET_SECONDS = 10.0
RAISE_PER_SECOND = 0.05
MAX_PAUSE_SECONDS = 900.0

# Clocks and buckets are floats: a token that lacks less than this is whole.
_ALMOST = 1e-4


@dataclass(frozen=True, slots=True)
class Room:
    """How many fetches may start now: `known` in all, and of these at most `unknown` for unknown orders."""

    known: int
    unknown: int

    def unknown_beside(self, known_taken: int) -> int:
        """How many unknown ones may still start when `known_taken` known ones do."""
        return max(0, min(self.unknown, self.known - known_taken))


NO_ROOM = Room(0, 0)


@dataclass(slots=True)
class _Shut:
    """A closed gate: why, when the next probe is due, the one under way, and answers still owed from before."""

    reason: ShutReason
    delay: float
    probe_at: float
    probing_since: float | None = None
    stragglers: int = 0
    outdated_probe: bool = False


class AccountGate:
    """One account's pace in this process. `rate_per_second` > 0, `unknown_share` in (0, 1]; `random` gives [0, 1)."""

    def __init__(self, rate_per_second: float, *, unknown_share: float = 0.5, random: Callable[[], float]) -> None:
        if not 0 < unknown_share <= 1:
            raise ValueError("unknown_share must be above 0 and at most 1")
        self._configured = _checked_rate(rate_per_second)
        self._rate = self._configured
        self._share = unknown_share
        self._random = random
        self._tokens = self._burst()
        self._unknown_tokens = self._unknown_burst()
        self._advanced_to: float | None = None
        self._limited_at: float | None = None
        self._halved_at: float | None = None
        self._limited_until = -math.inf
        self._failures = 0
        self._in_flight = 0
        self._shut: _Shut | None = None
        self.last_success: float | None = None
        self.well_since: float | None = None
        """Since when orders are read without a pause in between."""

    @property
    def rate_per_second(self) -> float:
        """The rate in force: the configured one, or less after a 429."""
        return self._rate

    def configure(self, rate_per_second: float, credentials_changed: bool) -> None:
        """Takes new settings. What changed is tried at once: a shut gate has a probe due."""
        rate = _checked_rate(rate_per_second)
        if self._shut is not None and (credentials_changed or rate != self._configured):
            self._shut.delay = _STEPS[self._shut.reason][0]
            self._shut.probe_at = -math.inf
            self._shut.outdated_probe = self._shut.probing_since is not None
        if credentials_changed:
            self._limited_until = -math.inf
        self._rate = rate if self._limited_at is None else min(rate, self._rate)
        self._configured = rate

    def room(self, now: float) -> Room:
        """How many fetches may start now. Asking changes nothing, and room that is not used needs no giving back."""
        self._advance(now)
        if self._opens_in(now) > 0:
            return NO_ROOM
        most = math.inf if self._shut is None else 1
        known = max(0, math.floor(min(most, self._tokens + _ALMOST)))
        return Room(known, max(0, math.floor(min(known, self._unknown_tokens + _ALMOST))))

    def take(self, now: float, *, known: int = 0, unknown: int = 0) -> None:
        """`known` + `unknown` fetches start now. Each must be reported with one of the methods below.

        What is taken beyond the room is owed, and waited for later.
        """
        count = known + unknown
        if count <= 0:
            return
        self._advance(now)
        self._tokens -= count
        self._unknown_tokens -= unknown
        self._in_flight += count
        if self._shut is not None:
            self._shut.probing_since = now
            self._shut.outdated_probe = False

    def succeeded(self, now: float) -> None:
        """An order was read."""
        self._answered(now)
        self.last_success = now
        if self.well_since is None:
            self.well_since = now

    def order_fault(self, now: float) -> None:
        """The provider answered, and the answer is about one order: provider and token are well."""
        self._answered(now)

    def trouble(self, now: float, error: ProviderTrouble) -> None:
        """Nobody's fault here. A 429 slows down and does not count for the breaker."""
        self._landed(now)
        if isinstance(error, RateLimited):
            self._slow_down(now, error.retry_after_seconds)
            if self._probe_ended():
                self._probe_again(now, self._delay())
            return
        self._failures += 1
        if self._shut is None:
            if self._failures >= BREAKER_FAILURES:
                self._close("outage", now)
        elif self._probe_ended():
            # It says nothing about a token that was refused before.
            self._probe_again(now, self._delay(longer=self._shut.reason == "outage"))

    def refused(self, now: float) -> None:
        """401 or 403: every other call would fail the same way."""
        self._landed(now)
        self._failures = 0
        if self._shut is None:
            self._close("refused", now)
        elif self._shut.reason == "outage":
            # The provider is back, and does not take the token.
            self._shut.reason = "refused"
            self._shut.delay = _STEPS["refused"][0]
            self._probe_ended()
            self._probe_again(now, self._shut.delay)
        elif self._probe_ended():
            self._probe_again(now, self._delay(longer=True))

    def abandoned(self, now: float) -> None:
        """A fetch that was taken ended without an answer (cancelled, lease lost): it says nothing, but it is over."""
        self._landed(now)
        if self._probe_ended():
            self._probe_again(now, 0.0)

    def paused(self, now: float) -> PauseReason | None:
        """Why nothing but probes goes out, if so."""
        if self._shut is not None:
            return self._shut.reason
        return "rate_limited" if now < self._limited_until else None

    def next_change(self, now: float) -> float | None:
        """Seconds until there may be room where there is none: for anything, else for unknown orders.

        None when there is room for both. A report can make room earlier.
        """
        self._advance(now)
        wait = max(self._opens_in(now), _seconds_to_one(self._tokens, self._rate))
        if wait <= 0:
            wait = _seconds_to_one(self._unknown_tokens, self._rate * self._share)
        return wait if wait > 0 else None

    def _opens_in(self, now: float) -> float:
        """Seconds until the gate lets anything through, the buckets aside; 0 when it does now."""
        wait = self._limited_until - now
        if self._shut is not None:
            probing_since = self._shut.probing_since
            due_at = self._shut.probe_at if probing_since is None else probing_since + PROBE_LOST_SECONDS
            wait = max(wait, due_at - now)
        return wait if wait > _ALMOST else 0.0

    def _answered(self, now: float) -> None:
        self._landed(now)
        self._failures = 0
        self._shut = None

    def _landed(self, now: float) -> None:
        self._advance(now)
        self._in_flight = max(0, self._in_flight - 1)

    def _close(self, reason: ShutReason, now: float) -> None:
        self.well_since = None
        delay = _STEPS[reason][0]
        self._shut = _Shut(reason, delay, now + self._jittered(delay), stragglers=self._in_flight)

    def _probe_ended(self) -> bool:
        """Whether a failure that just came in is the probe's; those still under way when the gate shut come first."""
        shut = self._shut
        if shut is None:
            return False
        if shut.stragglers > 0:
            shut.stragglers -= 1
            return False
        ended = shut.probing_since is not None
        shut.probing_since = None
        return ended

    def _delay(self, *, longer: bool = False) -> float:
        if self._shut is None:
            return 0.0
        if longer:
            self._shut.delay = min(self._shut.delay * 2, _STEPS[self._shut.reason][1])
        return self._shut.delay

    def _probe_again(self, now: float, delay: float) -> None:
        shut = self._shut
        if shut is None:
            return
        # A probe that began before the settings changed says nothing about the new ones.
        shut.probe_at = now if shut.outdated_probe else now + self._jittered(delay)
        if shut.outdated_probe:
            shut.delay = _STEPS[shut.reason][0]
        shut.outdated_probe = False

    def _jittered(self, delay: float) -> float:
        return delay * (1 + PROBE_JITTER * self._random())

    def _slow_down(self, now: float, retry_after_seconds: float | None) -> None:
        if self._halved_at is None or now - self._halved_at >= HALVE_AT_MOST_EVERY_SECONDS:
            self._rate = max(self._rate / 2, min(RATE_FLOOR, self._configured))
            self._halved_at = now
        self._limited_at = now
        self._tokens = min(self._tokens, 0.0)
        if retry_after_seconds is not None:
            pause = min(retry_after_seconds, MAX_PAUSE_SECONDS)
            self._limited_until = max(self._limited_until, now + pause)

    def _advance(self, now: float) -> None:
        """Fills the buckets up to `now`, and raises a lowered rate again."""
        since = self._advanced_to
        if since is not None and now <= since:
            return
        self._advanced_to = now
        if since is None:
            return
        self._tokens = min(self._burst(), self._tokens + self._rate * (now - since))
        unknown_rate = self._rate * self._share
        self._unknown_tokens = min(self._unknown_burst(), self._unknown_tokens + unknown_rate * (now - since))
        if self._limited_at is not None:
            raising_seconds = now - max(since, self._limited_at + QUIET_SECONDS)
            if raising_seconds > 0:
                self._rate += RAISE_PER_SECOND * self._configured * raising_seconds
            if self._rate >= self._configured:
                self._rate, self._limited_at = self._configured, None

    def _burst(self) -> float:
        return max(1.0, self._rate * BURST_SECONDS)

    def _unknown_burst(self) -> float:
        return max(1.0, self._burst() * self._share)


def _seconds_to_one(tokens: float, rate: float) -> float:
    """Until a bucket holds a whole token; 0 when it does now."""
    missing = 1 - tokens
    return missing / rate if missing > _ALMOST else 0.0


def backoff_seconds(count: int, base: float, cap: float, random: float) -> float:
    """Full jitter: the wait before try `count` + 1, from a tenth to the whole of `base` doubled `count` - 1 times.

    `count` is how often it failed (1 or more), `base` and `cap` are seconds, `random` is in [0, 1).
    """
    doublings = min(max(count, 1) - 1, 64)
    return float(min(cap, base * 2.0**doublings) * (0.1 + 0.9 * random))


def _checked_rate(rate_per_second: float) -> float:
    if not (math.isfinite(rate_per_second) and rate_per_second > 0):
        raise ValueError(f"rate_per_second must be a number above 0, not {rate_per_second}")
    return rate_per_second
