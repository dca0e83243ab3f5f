"""What a process of role `all` or `worker` runs beside its ports: worker, desk, audit, housekeeping.

Put together, begun and ended in one place, so that `serve` knows of one thing only.
"""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from service.accounts import AccountBook
from service.audit import completeness, nightly
from service.audit.nightly import NightlyVerification
from service.audit.retention import Retention, RetentionPolicy
from service.audit.sweep import Sweep
from service.database.pool import UNAVAILABLE, Database
from service.desk.legacy_watch import LegacyWatches
from service.desk.report import refresh_gauges as refresh_desk_gauges
from service.desk.runner import Runner
from service.mercadopago.client import MercadoPagoClient
from service.settings import Settings
from service.sync.housekeeping import Housekeeping
from service.sync.policies import account_policies
from service.sync.positions import Positions
from service.sync.worker import Worker
from service.web.health import HealthState

# A loop this late is stuck, and a restart is the cure.
LOOP_MAX_AGE_SECONDS = 60.0
RELEASE_SECONDS = 2.0
FAST_SECONDS = 2.0


class Singleton(Protocol):
    """Work that one process does for all."""

    async def run(self) -> None:
        """Until cancelled."""

    async def resign(self) -> None:
        """Lets another process take over at once."""


class WorkingRooms:
    """Made before the schema is known to be there; nothing touches the database until the loops run."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        desk_database: Database,
        client: MercadoPagoClient,
        accounts: Callable[[], AccountBook],
        health: HealthState,
    ) -> None:
        holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._health = health
        self.positions = Positions(database)
        self.worker = Worker(
            database,
            client,
            concurrency=settings.sync_concurrency,
            poll_seconds=settings.poll_seconds,
            lease_seconds=settings.lease_seconds,
            beat=lambda: health.beat("sync"),
            on_committed=self.positions.wake,
        )
        self.runner = Runner(
            desk_database,
            client,
            account=self.worker.gates.account,
            gate=self.worker.gates.gate,
            poll_seconds=settings.poll_seconds,
            lease_seconds=settings.lease_seconds,
            beat=lambda: health.beat("desk"),
            on_committed=self._desk_committed,
        )
        self.watches = LegacyWatches(
            desk_database,
            client,
            accounts=lambda: [account.name for account in accounts()],
            account=self.worker.gates.account,
            gate=self.worker.gates.gate,
            beat=lambda: health.beat("watches"),
            on_marked=self.worker.wake,
        )
        self._singletons: dict[str, Singleton] = {
            "housekeeping": self._housekeeping(settings, database, holder, accounts),
            "nightly": NightlyVerification(
                database,
                client,
                holder,
                accounts=accounts,
                sample=settings.verify_sample,
                on_committed=self.positions.wake,
            ),
            "retention": Retention(database, holder, _retention_policy(settings)),
        }
        if settings.sweep == "on":
            self._singletons["sweep"] = Sweep(
                database,
                client,
                self.worker.gates,
                holder,
                beat=lambda: health.beat("sweep"),
                on_marked=self.worker.wake,
            )
        self.follow(accounts())

    def _housekeeping(
        self, settings: Settings, database: Database, holder: str, accounts: Callable[[], AccountBook]
    ) -> Housekeeping:
        async def refresh_audit_gauges(reading: Database) -> None:
            if settings.sweep == "on":
                await completeness.refresh_gauges(reading, [account.name for account in accounts()])
            await nightly.refresh_gauges(reading, [account.name for account in accounts()])

        return Housekeeping(
            database,
            holder,
            accounts=lambda: [account.name for account in accounts()],
            on_committed=self.positions.wake,
            refunds_only_here_since=account_policies(lambda name: accounts().by_name(name))["refunds_only_here_since"],
            gauges=(refresh_desk_gauges, refresh_audit_gauges),
        )

    def _desk_committed(self) -> None:
        """An outcome was written down: events want their positions, and its order is due."""
        self.positions.wake()
        self.worker.wake()

    def follow(self, accounts: AccountBook) -> None:
        """Takes over changed accounts."""
        self.worker.follow(accounts)
        self.runner.wake()

    def begin(self) -> Mapping[str, Awaitable[None]]:
        """The loops by name; from now on they are expected to make progress."""
        expected = ["sync", "desk", "watches"] + (["sweep"] if "sweep" in self._singletons else [])
        for name in expected:
            self._health.expect(name, max_age_seconds=LOOP_MAX_AGE_SECONDS)
        singletons = {name: singleton.run() for name, singleton in self._singletons.items()}
        return {
            "sync": self.worker.run(),
            "desk": self.runner.run(),
            "watches": self.watches.run(),
            "positions": self.positions.run(),
            **singletons,
        }

    async def stop(self, tasks: Iterable[asyncio.Task[None]], *, fast: bool, finish_by: float) -> None:
        """Claims nothing more, finishes what is in flight, gives back the rest, and lets others lead.

        `tasks` are the loops; `finish_by` is a moment of `time.monotonic`. `fast`: somebody at the keyboard, or a
        second signal; what does not finish at once is given back, and nothing is lost.
        """
        self.watches.stop()
        patience = max(0.5, FAST_SECONDS if fast else finish_by - time.monotonic() - RELEASE_SECONDS)
        await asyncio.gather(self.worker.stop(within_seconds=patience), self.runner.stop(within_seconds=patience))
        # First, or it would take the place again that is given up here.
        ended = [task for task in tasks if task.get_name() in self._singletons]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        for singleton in self._singletons.values():
            with contextlib.suppress(*UNAVAILABLE):
                await singleton.resign()


def _retention_policy(settings: Settings) -> RetentionPolicy:
    return RetentionPolicy(
        notifications_days=settings.keep_notifications_days,
        versions_days=settings.keep_versions_days,
        fetches_days=settings.keep_fetches_days,
        events_days=settings.keep_events_days,
    )
