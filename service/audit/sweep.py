"""The standing sweep: searches each account's list for orders that nobody told us of, and certifies what is complete.

One process at a time leads it. Every few minutes it reads the list of an account from a while before its position up
to now, because new orders appear in the list late. What is unknown or older here is marked due in the same commit that
moves the position; the worker does the rest. So a `kill -9` anywhere leaves a position before which all is dealt with.
It asks only where the looks leave room, and waits while many of them are due.

Once a day it lists the last three days again, a few hours a round: a list may be later than what it reads each time.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from service.audit.completeness import EDGE, LAG, QUERIES, WAITING, certify, compare, take_back
from service.audit.listing import (
    SHUT_SECONDS,
    YIELD_SECONDS,
    AccountGoneError,
    AccountShutError,
    Now,
    ProviderList,
    Searches,
)
from service.audit.windows import ListBrokenError, Walk, Window, earliest_begin, to_the_hour
from service.database.leases import resign, try_lead
from service.database.pool import UNAVAILABLE, Database
from service.mercadopago.errors import AccountRefused, MercadoPagoError
from service.mercadopago.listing import OrdersPage
from service.mercadopago.pacing import backoff_seconds
from service.sync.gates import Gates
from service.telemetry import metrics

LEADER: Final = "sweep"
LEASE_SECONDS: Final = 45.0
TURN_SECONDS: Final = 5.0
EVERY_SECONDS: Final = 300.0
OVERLAP: Final = timedelta(hours=2)
RELISTED: Final = timedelta(hours=72)
RELIST_EVERY: Final = timedelta(days=1)
RELISTED_A_ROUND: Final = timedelta(hours=6)
LOOKBACK: Final = timedelta(hours=48)
DUE_LIMIT: Final = 2000
LOOKS_AHEAD_SECONDS: Final = 4.0
"""So many seconds' worth of an account's looks may wait at most when orders are marked: as long may a till's wait."""
BACKOFF_SECONDS: Final = (1.0, 900.0)
HOURS_A_ROUND: Final = 4
"""So many hours at most are settled in one round: a backlog is spread over the rounds, not asked for at once."""

log = structlog.get_logger(__name__)


class Sweep:
    """Runs in every process that works; only the elected one sweeps.

    `gates` are the worker's: looks and searches share an account's rate. `every_seconds` lies between two readings of
    an account; `overlap` is read again each time; `lookback` is where a new account begins; `lag` after its end an hour
    may be certified. `relist_every` lies between the beginnings of two slow readings of the last `RELISTED`. While
    `due_limit` orders that were asked for are due, or `LOOKS_AHEAD_SECONDS` of the account's rate, its sweep waits.
    `beat` is called whenever the loop makes progress, `on_marked` after a commit that marked orders due.
    """

    def __init__(
        self,
        database: Database,
        client: Searches,
        gates: Gates,
        holder: str,
        *,
        every_seconds: float = EVERY_SECONDS,
        turn_seconds: float = TURN_SECONDS,
        overlap: timedelta = OVERLAP,
        lookback: timedelta = LOOKBACK,
        lag: timedelta = LAG,
        relist_every: timedelta = RELIST_EVERY,
        due_limit: int = DUE_LIMIT,
        beat: Callable[[], None] = lambda: None,
        on_marked: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._client = client
        self._gates = gates
        self._holder = holder
        self._every_seconds = every_seconds
        self._turn_seconds = turn_seconds
        self._overlap = overlap
        self._lookback = lookback
        self._lag = lag
        self._relist_every = relist_every
        self._due_limit = due_limit
        self._beat = beat
        self._on_marked = on_marked
        self._clock = clock
        self._random = random
        self._next: dict[str, float] = {}
        self._failures: Counter[str] = Counter()
        self._clock_refused: dict[str, float] = {}
        self._rounds: dict[str, asyncio.Task[None]] = {}
        self._shown: defaultdict[str, set[str]] = defaultdict(set)

    async def run(self) -> None:
        """Until cancelled; rounds that are under way end with it, and are resumed by whoever leads next."""
        try:
            while True:
                self._beat()
                try:
                    leads = await try_lead(self._database, LEADER, self._holder, LEASE_SECONDS)
                except UNAVAILABLE as error:
                    # The lease may be another's by now.
                    log.debug("sweep_waits", error=type(error).__name__)
                    leads = False
                if leads:
                    self._begin_rounds()
                else:
                    await self._end_rounds()
                await asyncio.sleep(self._turn_seconds)
        finally:
            await self._end_rounds()

    async def resign(self) -> None:
        """Lets another process take over at once. Call it when `run` has ended."""
        await resign(self._database, LEADER, self._holder)

    def _begin_rounds(self) -> None:
        now = self._clock()
        for name in list(self._gates):
            account = self._gates.account(name)
            if account is None or account.access_token is None or name in self._rounds:
                continue
            if now >= self._next.get(name, now):
                task = asyncio.create_task(self._round(name), name=f"sweep {name}")
                self._rounds[name] = task
                task.add_done_callback(lambda _, name=name: self._rounds.pop(name, None))  # type: ignore[misc]  # mypy cannot infer a lambda's default

    async def _end_rounds(self) -> None:
        rounds = list(self._rounds.values())
        for task in rounds:
            task.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)

    async def _round(self, name: str) -> None:
        """One reading of one account's list; sets when the next one is."""
        started = self._clock()
        wait: float | None = None
        try:
            await self.sweep_once(name)
        except AccountGoneError:
            log.debug("sweep_account_gone", account=name)
        except AccountShutError as shut:
            # The looks try the account again, and the pause has its own alert; the list is read as soon as they may go.
            await self._tell(name, f"{WAITING}{shut}")
            wait = self._turn_seconds
        except (MercadoPagoError, ListBrokenError) as error:
            wait = await self._failed(name, error)
        except UNAVAILABLE as error:
            log.debug("sweep_waits", account=name, error=type(error).__name__)
            wait = self._turn_seconds
        except Exception:
            # One account's bad round must not end what the others rely on.
            log.exception("sweep_failed", account=name)
        else:
            self._failures[name] = 0
        self._next[name] = started + self._every_seconds if wait is None else self._clock() + wait

    async def _failed(self, name: str, error: MercadoPagoError | ListBrokenError) -> float:
        """Keeps why; the seconds until the next try."""
        self._failures[name] += 1
        what = f"{error.outcome}: {error}" if isinstance(error, MercadoPagoError) else f"list: {error}"
        if self._failures[name] == 1:
            log.warning("sweep_interrupted", account=name, error=what, advice="it goes on by itself when this ends")
        await self._tell(name, what)
        asked_for = error.retry_after_seconds if isinstance(error, MercadoPagoError) else None
        backoff = backoff_seconds(self._failures[name], *BACKOFF_SECONDS, self._random())
        # A token that is refused is not good again within seconds: then the looks' own tries suffice.
        least = self._every_seconds if isinstance(error, AccountRefused) else 0.0
        return max(backoff, asked_for or 0.0, least)

    async def _tell(self, name: str, what: str) -> None:
        """The account's sweep and certificate say why they do not get on."""
        try:
            await self._database.execute(QUERIES.note_sweep_failure, name, what)
        except UNAVAILABLE as unavailable:
            log.debug("sweep_waits", account=name, error=type(unavailable).__name__)

    async def sweep_once(self, name: str) -> None:
        """Reads the account's list once up to now, goes on with the slow second reading if it is time, and settles
        hours that are over, `HOURS_A_ROUND` at most.

        Raises `MercadoPagoError`, `ListBrokenError`, `AccountGoneError`, `AccountShutError`, and what the database
        raises. Whatever it raises, the position stands before all that was not dealt with.
        """

        async def look_is_due() -> bool:
            found: bool = await self._database.fetchval(QUERIES.look_is_due, name)
            return found

        listing = ProviderList(self._client, self._gates, name, look_is_due=look_is_due, clock=self._clock)
        now = await self._now(listing, name)
        await self._read(listing, name, now)
        failure: Exception | None = None
        try:
            await self._read_again(listing, name, now)
        except (MercadoPagoError, ListBrokenError) as error:
            # Old hours that cannot be listed are no reason to leave the new ones unsettled.
            failure = error

        async def count(window: Window) -> OrdersPage:
            return await listing.search(window, page_size=1)

        room = await self._wait_for_looks(name)
        marked = await certify(
            self._database, name, listing.search, now.certain, count=count, lag=self._lag, shown=self._shown[name],
            most_hours=HOURS_A_ROUND, most_marked=room,
        )  # fmt: skip
        if marked:
            self._on_marked()
        if failure is not None:
            raise failure

    async def _now(self, listing: ProviderList, name: str) -> Now:
        """What time it is; a provider that does not tell is not asked again before the usual time is over."""
        asked, began = self._clock_refused.get(name), self._clock()
        is_time = asked is None or began - asked >= self._every_seconds
        now = await listing.now(self._database, asks_provider=is_time)
        if is_time:
            self._clock_refused.pop(name, None)
        if now.is_refused:
            self._clock_refused[name] = began
        return now

    async def _read(self, listing: ProviderList, name: str, now: Now) -> None:
        start = to_the_hour(now.certain - self._lookback)
        async with self._database.transaction() as connection:
            position: datetime = await connection.fetchval(QUERIES.begin_sweep, name, start)
            await connection.execute(QUERIES.begin_certificate, name, start)
        begin = max(min(position, now.certain) - self._overlap, earliest_begin(now.certain))
        walk = Walk(begin, now.reach)
        while (window := walk.window) is not None:
            await self._wait_for_looks(name)
            page = await listing.search(window)
            await self._record(name, walk, page, window, now)
        if walk.broken is not None:
            raise ListBrokenError(walk.broken)

    async def _read_again(self, listing: ProviderList, name: str, now: Now) -> None:
        """Some hours of the last days once more, for what the list shows late; the overlap's are left out."""
        start, end = to_the_hour(now.certain - RELISTED), now.certain - self._overlap
        position: datetime | None = await self._database.fetchval(
            QUERIES.begin_relisting, name, start, now.certain, self._relist_every
        )
        if position is None:
            return
        begin = max(position, start)
        until = min(begin + RELISTED_A_ROUND, end)
        walk = Walk(begin - EDGE, until)
        while (window := walk.window) is not None:
            await self._wait_for_looks(name)
            page = await listing.search(window)
            await self._record(name, walk, page, window, now, again=True)
        # Nothing is concluded from what the list leaves out, so it may contradict itself here.
        await self._database.execute(QUERIES.move_relisting, name, until, until >= end, 0, 0, 0)

    async def _record(
        self, name: str, walk: Walk, page: OrdersPage, window: Window, now: Now, *, again: bool = False
    ) -> None:
        """Marks what is to be looked at, as many at a time as do not hold up others' looks for long; the position moves
        with the last of them.
        """
        orders = walk.read(page)
        self._shown[name] |= {order.type for order in orders if order.type is not None}
        is_last = False
        while not is_last:
            room = await self._wait_for_looks(name)
            part, orders = orders[:room], orders[room:]
            is_last = not orders
            async with self._database.transaction() as connection:
                found = await compare(connection, part, mark_for=name)
                counts = Counter(found.values())
                numbers = len(part), counts["unknown"], counts["stale"]
                if again:
                    moved_to = walk.position if is_last else window.begin
                    await connection.execute(QUERIES.move_relisting, name, moved_to, False, *numbers)
                    not_stored = [order for order in part if found[order.order_id] in {"unknown", "foreign"}]
                    await take_back(connection, name, not_stored, window.begin)
                else:
                    moved_to = min(walk.position if is_last else window.begin, now.certain)
                    await connection.execute(QUERIES.move_sweep, name, moved_to, window.page, *numbers)
            for what, number in counts.items():
                metrics.sweep_orders_total.labels(what).inc(number)
            if counts["unknown"] or counts["stale"]:
                unknown, stale = counts["unknown"], counts["stale"]
                log.info("sweep_found", account=name, unknown=unknown, stale=stale, listed=len(part))
                self._on_marked()

    async def _wait_for_looks(self, name: str) -> int:
        """What was found before is looked at first: the queue of one account does not grow without bound, and a till's
        order does not stand behind a catch-up. How many more may be marked now.

        Raises `AccountShutError` where no look goes out for a while. Where looks go out and more and more are asked
        for, it ends with the least there is: a flood must not end all searching.
        """
        begun = self._clock()
        shut_at: float | None = None
        while True:
            gate, now = self._gates.gate(name), self._clock()
            limit = self._due_limit
            if gate is not None:
                limit = min(limit, max(1, int(gate.rate_per_second * LOOKS_AHEAD_SECONDS)))
            due: int = await self._database.fetchval(QUERIES.count_due, name, limit)
            if due < limit or gate is None:
                return max(1, limit - due)
            paused = gate.paused(now)
            if paused is None and now - begun >= YIELD_SECONDS:
                return 1
            shut_at = None if paused is None else shut_at or now
            if shut_at is not None and now - shut_at >= SHUT_SECONDS:
                raise AccountShutError(f"no look goes out for account {name} ({paused}), and {due} orders wait")
            await asyncio.sleep(self._turn_seconds)
