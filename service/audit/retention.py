"""Retention: whole months of what only grows are dropped when policy keeps them no longer.

Orders, their payments, refunds and discrepancies stay for ever. A month goes when its last day is older than the
policy says, never the current one, and never rows that landed in a default partition.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from service.database.leases import resign, try_lead
from service.database.pool import UNAVAILABLE, Database
from service.database.queries import load

QUERIES = load(Path(__file__).with_name("retention.sql"))

EVERY_SECONDS = 3600.0
LEASE_SECONDS = 3 * EVERY_SECONDS
LEADER = "retention"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Days that each table's rows are kept at least; 0 keeps them for ever."""

    notifications_days: int = 0
    versions_days: int = 0
    fetches_days: int = 0
    events_days: int = 0

    @property
    def days_by_table(self) -> Mapping[str, int]:
        """The tables that something is ever dropped from."""
        days = {
            "notifications": self.notifications_days,
            "order_versions": self.versions_days,
            "fetches": self.fetches_days,
            "events": self.events_days,
        }
        return {table: kept for table, kept in days.items() if kept > 0}


async def drop_expired(database: Database, policy: RetentionPolicy) -> list[str]:
    """Drops the months that the policy keeps no longer; returns the names of the partitions that went.

    One that is in use just now stays and goes with a later call. Raises what the database raises.
    """
    dropped: list[str] = []
    for table, days in policy.days_by_table.items():
        dropped += await database.fetchval(QUERIES.drop_partitions, table, days)
    return dropped


class Retention:
    """The loop: every hour, in one process."""

    def __init__(self, database: Database, holder: str, policy: RetentionPolicy) -> None:
        self._database = database
        self._holder = holder
        self._policy = policy

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._policy.days_by_table and await try_lead(self._database, LEADER, self._holder, LEASE_SECONDS):
                    for partition in await drop_expired(self._database, self._policy):
                        log.info("partition_dropped", partition=partition)
            except UNAVAILABLE as error:
                log.debug("retention_waits", error=type(error).__name__)
            except Exception:
                log.exception("retention_failed")
            await asyncio.sleep(EVERY_SECONDS)

    async def resign(self) -> None:
        """Lets another process take over at once."""
        await resign(self._database, LEADER, self._holder)
