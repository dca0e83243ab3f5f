"""What one process does for all: gauges read from the database, partitions made ahead, rules that time alone moves."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import structlog

from service.database.leases import resign, try_lead
from service.database.pool import UNAVAILABLE, Database
from service.orders.rules import RULES
from service.sync.claims import QUERIES
from service.sync.judging import judge_stored
from service.sync.policies import RefundPolicy, no_policy
from service.sync.report import report_discrepancy
from service.telemetry import metrics

EVERY_SECONDS = 15.0
LEASE_SECONDS = 45.0
PARTITIONS_EVERY_SECONDS = 3600.0
MONTHS_AHEAD = 3
LEADER = "housekeeping"
# Counting orders may take this share of the time at most, and so may each of the other rooms' gauges: on a large table
# they are read less often.
COUNTING_SHARE = 0.05
# Rows of strangers that one statement takes out, and so many statements in one turn: the lease must outlast it.
FORGOTTEN_AT_ONCE = 1000
FORGETTING_A_TURN = 10

log = structlog.get_logger(__name__)


class Housekeeping:
    """Runs in every process that works; only the elected one does anything.

    `accounts` are the names of those that somebody looks after; `refunds_only_here_since` is an account's policy.
    `gauges` refresh what other rooms publish from the database.
    """

    def __init__(
        self,
        database: Database,
        holder: str,
        *,
        accounts: Callable[[], Sequence[str]],
        on_committed: Callable[[], None] = lambda: None,
        refunds_only_here_since: RefundPolicy = no_policy,
        gauges: Sequence[Callable[[Database], Awaitable[None]]] = (),
    ) -> None:
        self._database = database
        self._holder = holder
        self._accounts = accounts
        self._refunds_only_here_since = refunds_only_here_since
        self._gauges = gauges
        self._on_committed = on_committed
        self._elected = False
        self._next_partitions = 0.0
        self._next_counting = 0.0
        self._next_refresh = [0.0] * len(gauges)
        self._has_strangers_to_forget = False
        self._told_of_nobody: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    async def run(self) -> None:
        """Until cancelled; then the place is given up."""
        try:
            while True:
                try:
                    await self._round()
                except UNAVAILABLE as error:
                    self._stand(elected=False)
                    log.debug("housekeeping_waits", error=type(error).__name__)
                except Exception:
                    # One bad round must not end what every process relies on.
                    log.exception("housekeeping_failed")
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            self._stand(elected=False)

    async def resign(self) -> None:
        """Lets another process take over at once."""
        await resign(self._database, LEADER, self._holder)

    async def _round(self) -> None:
        self._stand(elected=await try_lead(self._database, LEADER, self._holder, LEASE_SECONDS))
        if not self._elected:
            return
        now = time.monotonic()
        if now >= self._next_partitions:
            self._next_partitions = now + PARTITIONS_EVERY_SECONDS
            await self._database.fetchval(QUERIES.ensure_partitions, MONTHS_AHEAD)
            self._has_strangers_to_forget = True
        if self._has_strangers_to_forget:
            self._has_strangers_to_forget = await self._forget_strangers()
        await self._refresh_gauges()
        await self._judge_rules_due()
        if now >= self._next_counting:
            await self._count_orders()
            took = time.monotonic() - now
            self._next_counting = now + took / COUNTING_SHARE

    def _stand(self, *, elected: bool) -> None:
        """The database's gauges exist in the elected process only, so that sums over replicas are right."""
        if elected == self._elected:
            return
        self._elected = elected
        for gauge in metrics.DATABASE_GAUGES:
            if elected:
                metrics.REGISTRY.register(gauge)
            else:
                metrics.REGISTRY.unregister(gauge)
        self._next_counting = 0.0
        self._next_refresh = [0.0] * len(self._gauges)

    async def _judge_rules_due(self) -> None:
        while rows := await self._database.fetch(QUERIES.read_rules_due):
            ids = [row["order_id"] for row in rows]
            for change in await judge_stored(
                self._database, ids, refunds_only_here_since=self._refunds_only_here_since
            ):
                report_discrepancy(change)
            self._on_committed()

    async def _forget_strangers(self) -> bool:
        """What was invented, or another seller's, does not stay for ever: whoever speaks of it makes its row anew.

        As many as a turn has time for; whether there may be more.
        """
        for _ in range(FORGETTING_A_TURN):
            if await self._database.fetchval(QUERIES.forget_strangers, FORGOTTEN_AT_ONCE) < FORGOTTEN_AT_ONCE:
                return False
        return True

    async def _look_for_orders_of_nobody(self) -> None:
        """Known orders of accounts that are not configured: nobody reads them, whatever is told of them."""
        configured = tuple(self._accounts())
        rows = await self._database.fetch(QUERIES.read_orders_of_nobody, list(configured))
        metrics.orders_of_nobody.set(sum(row["due"] for row in rows))
        told = (configured, tuple(row["account"] for row in rows))
        if rows and told != self._told_of_nobody:
            log.warning(
                "orders_of_nobody",
                accounts=[row["account"] for row in rows],
                configured=list(configured),
                advice="no account of that name is configured, so nothing reads these orders: configure it, or where "
                "it has another name now: cuadre accounts move OLD NEW",
            )
        self._told_of_nobody = told

    async def _refresh_gauges(self) -> None:
        await self._look_for_orders_of_nobody()
        row = await self._database.fetchrow(QUERIES.read_due_gauges, list(self._accounts()))
        assert row is not None
        metrics.orders_due.set(row["orders_due"])
        metrics.oldest_due_seconds.set(row["oldest_due_seconds"])
        metrics.strangers_due.set(row["strangers_due"])
        metrics.oldest_stranger_due_seconds.set(row["oldest_stranger_due_seconds"])
        metrics.orders_quarantined.set(row["orders_quarantined"])
        metrics.strangers_quarantined.set(row["strangers_quarantined"])
        open_by_rule = {row["rule"]: row["open"] for row in await self._database.fetch(QUERIES.read_discrepancy_gauges)}
        for rule in RULES:
            metrics.discrepancies_open.labels(rule).set(open_by_rule.get(rule, 0))
        for row in await self._database.fetch(QUERIES.read_default_partitions):
            metrics.default_partition_rows.labels(row["table_name"]).set(int(row["has_rows"]))
        for number, refresh in enumerate(self._gauges):
            began = time.monotonic()
            if began >= self._next_refresh[number]:
                await refresh(self._database)
                self._next_refresh[number] = began + (time.monotonic() - began) / COUNTING_SHARE

    async def _count_orders(self) -> None:
        counted: Counter[tuple[str, str]] = Counter()
        for row in await self._database.fetch(QUERIES.read_order_gauges):
            kind = metrics.bounded(row["type"], metrics.KNOWN_TYPES)
            counted[kind, metrics.bounded(row["status"], metrics.KNOWN_STATUSES)] += row["orders"]
        metrics.orders.clear()
        for (kind, status), number in counted.items():
            metrics.orders.labels(kind, status).set(number)
        # Grows with the orders, too.
        metrics.looks_next_day.set(await self._database.fetchval(QUERIES.read_looks_next_day, list(self._accounts())))
