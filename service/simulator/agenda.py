"""What the provider has set for later, by the simulated clock: a refund that ends, a terminal that lets go. Pure."""

import heapq
from collections.abc import Callable
from datetime import datetime

Act = Callable[[datetime], None]
"""Is told the moment it was due at, which may lie in the past."""


class Agenda:
    """Acts by their due time; those of one moment in the order they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, Act]] = []
        self._set = 0

    def reset(self) -> None:
        """Nothing is set any more."""
        self._heap.clear()

    def put(self, due: datetime, act: Act) -> None:
        """Set `act` for `due`."""
        self._set += 1
        heapq.heappush(self._heap, (due, self._set, act))

    def pop_due(self, now: datetime) -> tuple[datetime, Act] | None:
        """The next act that is due by `now`, taken off the agenda."""
        if not self._heap or self._heap[0][0] > now:
            return None
        due, _, act = heapq.heappop(self._heap)
        return due, act
