"""How fast one key may command: a token bucket per key and process, asked before anything is read or written.

A gateway that runs wild is told to slow down; nobody else's commands wait for it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.web.errors import TooManyCommands
from service.web.keys import ApiKey

BURST_SECONDS = 2.0
"""How many seconds' worth of commands may come at once."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class CommandLimits:
    """The buckets of one process. `clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Only keys of the file come here, so this grows no larger than the file ever was.
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: ApiKey) -> None:
        """One command of this key. Raises `TooManyCommands` with the seconds after which the next one is taken."""
        now, rate = self._clock(), key.commands_per_second
        most = max(1.0, rate * BURST_SECONDS)
        bucket = self._buckets.setdefault(key.sha256, _Bucket(most, now))
        bucket.tokens = min(most, bucket.tokens + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        if bucket.tokens < 1.0:
            raise TooManyCommands(rate, math.ceil((1.0 - bucket.tokens) / rate))
        bucket.tokens -= 1.0
