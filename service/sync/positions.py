"""Giving committed events their positions: one writer at a time, so that a follower misses none (invariant I6)."""

import asyncio
import contextlib

import structlog

from service.database.pool import UNAVAILABLE, Database
from service.sync.claims import QUERIES

RETRY_SECONDS = 0.02
# A command that waits for its turn gives up after a second: a running service numbers, and otherwise the next command.
_ATTEMPTS = 50
# What a process that died between its commit and this left behind is found here.
SWEEP_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def assign_positions(database: Database) -> bool:
    """Numbers what waits; False where somebody else is at it and has to be waited for."""
    while True:
        row = await database.fetchrow(QUERIES.assign_positions)
        assert row is not None
        if not row["mine"]:
            return False
        if row["given"] < 1000:
            return True


async def number_events(database: Database) -> None:
    """For what commits without a service's own task: followers see the events at once, whether or not one runs."""
    for _ in range(_ATTEMPTS):
        if await assign_positions(database):
            return
        await asyncio.sleep(RETRY_SECONDS)


class Positions:
    """A task that numbers events soon after each commit, and sweeps for stragglers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something was committed."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if not await assign_positions(self._database):
                    # Another process numbers right now, perhaps from before our commit: look again when it is done.
                    self._wake.set()
                    await asyncio.sleep(RETRY_SECONDS)
            except UNAVAILABLE as error:
                log.debug("positions_wait", error=type(error).__name__)
                await asyncio.sleep(1.0)
