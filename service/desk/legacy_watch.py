"""Watching sales of the legacy attended QR: no order can be asked for before the buyer scans, so the sale is searched.

What was put on a point of sale keeps its command due on the schedule of an open in-person order, to its expiry and on
to 24 hours after it (a buyer who has the pay screen open can still pay). Each look searches the merchant orders with
the sale's reference, marks them due in `sync`, and gives the command the one that is its own. The provider's search
lags, so an empty answer proves nothing. Afterwards the looks of `sync` at the known merchant orders carry on.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import random
from typing import Final
from uuid import UUID

import structlog
from asyncpg import Record

from service.database.pool import UNAVAILABLE, Database
from service.desk.legacy import CLOCKS_DIFFER, QUERIES, is_refused_search, mark_found
from service.desk.outcomes import Outcome, Verdict
from service.desk.work import Work
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import AccountRefused, MercadoPagoError, ProviderTrouble
from service.mercadopago.pacing import AccountGate
from service.orders.look_table import DEFAULT_LOOKS, LookTable
from service.sync.locks import lock_orders

CONCURRENCY: Final = 8
LEASE_SECONDS: Final = 60.0
# So long after its expiry a sale is searched for; what is known by then is looked at by `sync`.
WATCHED_FOR: Final = timedelta(hours=24)
# A merchant order that nobody had heard of is stored by then, and can be given to its command.
_FOUND_IS_READ: Final = timedelta(seconds=2)
# Trouble at the provider does not end a watch before its time, nor keep it for ever.
_TROUBLE: Final = timedelta(minutes=1)
_TROUBLE_ENDS: Final = timedelta(hours=48)
_DATABASE_REST_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


def first_watch_seconds(work: Work, outcome: Outcome) -> float | None:
    """Seconds until the first look at a sale that is settled like this; None where there is nothing to watch.

    One that was given up because its outcome is unknown is watched, too: it may be up, and may be paid.
    """
    command = work.command
    if command.kind != "legacy_put" or command.external_reference is None:
        return None
    may_be_up = outcome.verdict is Verdict.DONE or (outcome.verdict is Verdict.REFUSED and not work.is_first)
    return DEFAULT_LOOKS.open_in_person.offsets[0].total_seconds() if may_be_up else None


def next_watch(
    sent_at: datetime, expires_at: datetime, now: datetime, jitter: float, table: LookTable = DEFAULT_LOOKS
) -> datetime | None:
    """When to search for the sale next, always after `now`; None once 24 hours have passed since it ran out.

    `jitter` is in [-1, 1]; `table` is the account's.
    """
    if now >= expires_at + WATCHED_FOR:
        return None
    waiting = table.open_in_person.next_time(sent_at, now, jitter)
    if waiting is not None and waiting < expires_at:
        return waiting
    return table.after_expiry.next_time(expires_at, now, jitter)


@dataclass(frozen=True, slots=True)
class Watch:
    """One sale under lease. `preference_id` is what Mercado Pago called it when it was put up (V1), None if unknown."""

    command_id: str
    account: str
    external_reference: str
    order_id: str | None
    maybe_sent_at: datetime
    expires_at: datetime
    lease_token: UUID
    preference_id: str | None
    now: datetime


def _watch(row: Record) -> Watch:
    return Watch(**{name: row[name] for name in Watch.__slots__})


class LegacyWatches:
    """Looks for sales until told to stop. Any number of them, in any number of processes, share one database.

    `account` and `gate` find an account's settings and its pace in this process, by name; `accounts` are their names.
    `on_marked` is called after each commit that marked orders due; `beat` whenever the loop makes progress.
    """

    def __init__(
        self,
        database: Database,
        client: MercadoPagoClient,
        *,
        accounts: Callable[[], Iterable[str]],
        account: Callable[[str], Account | None],
        gate: Callable[[str], AccountGate | None],
        poll_seconds: float = 1.0,
        beat: Callable[[], None] = lambda: None,
        on_marked: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._client = client
        self._accounts = accounts
        self._account = account
        self._gate = gate
        self._poll_seconds = poll_seconds
        self._beat = beat
        self._on_marked = on_marked
        self._clock = clock
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`; what is under way then is finished."""
        while not self._stop.is_set():
            self._beat()
            rest = self._poll_seconds
            try:
                if await self.look() >= CONCURRENCY:
                    continue
            except UNAVAILABLE as error:
                log.warning("legacy_watches_wait_for_database", error=type(error).__name__)
                rest = max(rest, _DATABASE_REST_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._stop.wait()

    def stop(self) -> None:
        """Begins nothing more. A watch that is cut off is due again when its lease ends."""
        self._stop.set()

    async def look(self) -> int:
        """One look at every sale that is due and may be asked for now; how many there were."""
        names = [name for name in self._accounts() if self._is_open(name)]
        if not names:
            return 0
        rows = await self._database.fetch(QUERIES.claim_watches, names, CONCURRENCY, LEASE_SECONDS)
        async with asyncio.TaskGroup() as looks:
            for row in rows:
                looks.create_task(self._look_at(_watch(row)))
        return len(rows)

    def _is_open(self, name: str) -> bool:
        gate = self._gate(name)
        return gate is not None and self._account(name) is not None and gate.room(self._clock()).known > 0

    async def _look_at(self, watch: Watch) -> None:
        account, gate = self._account(watch.account), self._gate(watch.account)
        if account is None or gate is None:
            return
        gate.take(self._clock(), known=1)
        try:
            found = await self._client.search_merchant_orders(account, watch.external_reference)
        except MercadoPagoError as error:
            self._tell(gate, error)
            await self._settle(watch, None, _after_trouble(watch, account), f"{error.outcome}: {error}")
            return
        except BaseException:
            gate.abandoned(self._clock())
            raise
        gate.succeeded(self._clock())
        since = watch.maybe_sent_at - CLOCKS_DIFFER
        unheard = 0
        if found:
            unheard = (await mark_found(self._database, watch.account, found, since)).unheard
            self._on_marked()
        own: str | None = await self._database.fetchval(
            QUERIES.find_sale_order,
            watch.account,
            watch.external_reference,
            since,
            watch.maybe_sent_at,
            watch.preference_id,
        )
        due_at = _next(watch, account)
        if unheard and due_at is not None:
            due_at = min(due_at, watch.now + _FOUND_IS_READ)
        await self._settle(watch, own, due_at, None)

    def _tell(self, gate: AccountGate, error: MercadoPagoError) -> None:
        now = self._clock()
        if isinstance(error, AccountRefused) and (error.status != 403 or gate.paused(now) == "refused"):
            gate.refused(now)
        elif isinstance(error, ProviderTrouble) and not is_refused_search(error):
            gate.trouble(now, error)
        else:
            gate.order_fault(now)

    async def _settle(self, watch: Watch, own: str | None, due_at: datetime | None, error: str | None) -> None:
        """Commits what was found. Whose order it is concerns the rules: under its lock, and it is judged again."""
        is_new = own is not None and own != watch.order_id
        async with self._database.transaction() as connection:
            if is_new:
                await lock_orders(connection, [watch.command_id, own or ""])
            settled = await connection.fetchval(
                QUERIES.settle_watch, watch.command_id, watch.lease_token, own, due_at, error
            )
            if is_new and settled is not None:
                await connection.execute(QUERIES.judge_sale_soon, own)
        if is_new and settled is not None:
            log.info("legacy_sale_found", command_id=watch.command_id, order_id=own, account=watch.account)


def _next(watch: Watch, account: Account) -> datetime | None:
    jitter = random() * 2 - 1  # noqa: S311 - jitter is no cryptography
    return next_watch(watch.maybe_sent_at, watch.expires_at, watch.now, jitter, account.looks)


def _after_trouble(watch: Watch, account: Account) -> datetime | None:
    """Soon again, and for longer than the watch itself lasts: an outage must not hide how the sale ended."""
    if watch.now >= watch.expires_at + _TROUBLE_ENDS:
        return None
    planned, soon = _next(watch, account), watch.now + _TROUBLE
    return soon if planned is None else min(planned, soon)
