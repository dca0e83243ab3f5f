"""Whether this process is alive, and whether it should be sent requests.

Alive asks nothing of the database: a restart would not bring a database back. Ready asks it, and says no from the
moment that draining began.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

# Shorter than the time-out of any probe worth its name (deploy/kubernetes: 2 s), so that a no is heard as one.
READY_TIMEOUT_SECONDS: Final = 1.5

Check = Callable[[], Awaitable[bool]]


class Health(Protocol):
    """What the probes ask; the second value is told to whoever probes."""

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Whether every loop of this process makes progress."""

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests should come here."""


class HealthState:
    """The stamps of this process's loops, its draining, and what readiness depends on.

    `checks` are asked at every readiness probe, at the same time, within `READY_TIMEOUT_SECONDS`; one that raises or
    is late counts as no. Probes that come while one is under way share its result. A late check is cancelled and not
    waited for, because letting go of a frozen server takes long; until it has ended it is not asked again, and its
    answer stays no. So there is at most one of each, however often a probe comes. `clock` counts seconds.
    """

    def __init__(self, checks: Mapping[str, Check], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = dict(checks)
        self._clock = clock
        self._draining = False
        self._max_ages: dict[str, float] = {}
        self._last_beats: dict[str, float] = {}
        self._under_way: asyncio.Task[dict[str, bool]] | None = None
        self._asked: dict[str, asyncio.Task[bool]] = {}

    def expect(self, loop: str, *, max_age_seconds: float) -> None:
        """From now on `loop` must beat at least that often."""
        self._max_ages[loop] = max_age_seconds
        self._last_beats[loop] = self._clock()

    def beat(self, loop: str) -> None:
        """The loop made progress."""
        self._last_beats[loop] = self._clock()

    def forget(self, loop: str) -> None:
        """The loop ended as it should; it is expected no longer."""
        self._max_ages.pop(loop, None)
        self._last_beats.pop(loop, None)

    def drain(self) -> None:
        """Not ready any more, for good."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._draining

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Whether no loop is older than it may be; ages in seconds."""
        now = self._clock()
        loops = {
            name: {
                "age_seconds": round(now - self._last_beats[name], 3),
                "max_age_seconds": max_age,
                "ok": now - self._last_beats[name] <= max_age,
            }
            for name, max_age in sorted(self._max_ages.items())
        }
        alive = all(loop["ok"] for loop in loops.values())
        return alive, {"status": "alive" if alive else "stuck", "loops": loops}

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether it is not draining and every check says yes."""
        if self._draining:
            return False, {"status": "draining", "checks": {}}
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._ask_all())
        results = await asyncio.shield(self._under_way)
        # Draining may have begun while the database was asked.
        ready = all(results.values()) and not self.draining
        status = "ready" if ready else "draining" if self.draining else "not_ready"
        return ready, {"status": status, "checks": results}

    async def _ask_all(self) -> dict[str, bool]:
        ending = {name for name, task in self._asked.items() if not task.done()}
        asked = {name: asyncio.create_task(_ask(check)) for name, check in self._checks.items() if name not in ending}
        self._asked |= asked
        if asked:
            _, late = await asyncio.wait(asked.values(), timeout=READY_TIMEOUT_SECONDS)
            for task in late:
                task.cancel()
        return {name: name in asked and _says_yes(asked[name]) for name in self._checks}


def _says_yes(task: asyncio.Task[bool]) -> bool:
    return task.done() and not task.cancelled() and task.result()


async def _ask(check: Check) -> bool:
    try:
        return await check()
    except Exception:
        # Whatever the trouble is, the answer is no; the log of whoever owns it says why.
        return False
