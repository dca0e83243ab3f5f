"""Listing a range that somebody asked for, and looking at every order in it that is unknown or older here.

The same walk through the list as the sweep's, with the looks made before the position moves past them; it moves past
no order that failed. So a run that is killed goes on where it stood, what it had stored by then is known when its page
is listed again, and what had failed is tried again and told.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from service.audit.completeness import HOUR, NEVER_LISTED, QUERIES, compare, read_certificate
from service.audit.listing import AccountShutError, ProviderList
from service.audit.windows import LONGEST, OVERLAP, Walk, Window, to_the_hour
from service.database.pool import Database
from service.mercadopago.errors import ProviderTrouble
from service.mercadopago.listing import ListedOrder, OrdersPage
from service.mercadopago.pacing import backoff_seconds

LOOKS_AT_ONCE: Final = 8
TRIES: Final = 6
BACKOFF_SECONDS: Final = (1.0, 60.0)
FAILURES_IN_A_ROW: Final = 20
"""So many say that it is not the orders: better to stop and go on later than to leave a trail of failures."""
ABOUT_ONE_ORDER: Final = frozenset({"not_found", "bad_request", "unreadable", "unstorable", "worker_lost"})
"""Failures that say nothing about the next order, so they never stop a run: orders older than three months are listed
and not shown, one after the other."""

LookNow = Callable[[str, str | None], Awaitable[str | None]]
"""Looks at one order (of an account, None: of the stored order's own); None when it is stored, else why not, beginning
with the failure's code and a colon."""


class BackfillStoppedError(Exception):
    """It cannot go on now; the same range goes on where it stands. `str()` is one line."""


@dataclass(slots=True)
class Backfill:
    """What a run did. `failures`: (order id, why), in the order met. `resumed`: it goes on from an interrupted run.

    `certified_since`: where the certificate begins now, None where it was not extended; `not_certified`: what the list
    left out, where that was why.
    """

    account: str
    from_at: datetime
    to_at: datetime
    resumed: bool = False
    listed: int = 0
    unknown: int = 0
    stale: int = 0
    applied: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    finished: bool = False
    certified_since: datetime | None = None
    not_certified: str | None = None
    shown_types: set[str] = field(default_factory=set)


class BackfillRun:
    """Fills `[from_at, to_at)` of one account, up to now at most. `random` gives [0, 1); `wait` sleeps that long."""

    def __init__(
        self,
        database: Database,
        listing: ProviderList,
        look: LookNow,
        *,
        account: str,
        from_at: datetime,
        to_at: datetime,
        random: Callable[[], float],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._listing = listing
        self._look = look
        self._random = random
        self._wait = wait
        self._on_listed: Callable[[int], None] = lambda number: None
        self._failed_in_a_row = 0
        self._position = from_at
        self._held: datetime | None = None
        self._shown_ids: set[str] = set()
        self.result = Backfill(account, from_at, to_at)

    async def begin(self, now: datetime) -> int | None:
        """Takes up where an interrupted run stood; how many orders the list counts from there, None where it does not.

        Raises as `run` does.
        """
        result, total = self.result, 0
        key = result.account, result.from_at, result.to_at
        self._position = await self._database.fetchval(QUERIES.begin_backfill, *key)
        result.resumed = self._position > result.from_at
        begin, end = self._position, min(result.to_at, now)
        while begin < end:
            page = await self._search(Window(begin, min(end, begin + LONGEST), 1), page_size=1)
            if page.total is None:
                return None
            total += page.total
            begin += LONGEST
        return total

    async def run(self, now: datetime, on_listed: Callable[[int], None] = lambda number: None) -> Backfill:
        """From where `begin` stands to the end of the range. An order that fails is noted and stays due.

        Raises `BackfillStoppedError`, `MercadoPagoError` where the search is refused, and what the database raises:
        then the range goes on from the same place when it is asked for again.
        """
        result, self._on_listed = self.result, on_listed
        key = result.account, result.from_at, result.to_at
        try:
            await self._read(Walk(self._position, min(result.to_at, now)))
        except BackfillStoppedError as error:
            await self._database.execute(QUERIES.note_backfill_failure, *key, str(error))
            raise
        await self._database.execute(QUERIES.finish_backfill, *key)
        result.finished = True
        if not result.failures and not result.resumed:
            await self._extend_certificate(min(result.to_at, now))
        return result

    async def _read(self, walk: Walk) -> None:
        while (window := walk.window) is not None:
            before, page = walk.position, await self._search(window)
            orders = [
                order
                for order in walk.read(page)
                if order.created_at is None or self.result.from_at <= order.created_at < self.result.to_at
            ]
            if walk.skipped:
                self._hold(before)
            await self._deal_with(orders, before, walk.position, window.page)
        if walk.broken is not None:
            raise BackfillStoppedError(f"{walk.broken}; run it again to go on")
        if walk.skipped:
            self.result.failures.append(("-", f"the list shows entries without a usable id ({walk.skipped})"))

    def _hold(self, moment: datetime) -> None:
        """From here on something is not dealt with: a run that goes on after an end by force begins there."""
        self._held = moment if self._held is None else min(self._held, moment)

    async def _deal_with(self, orders: Sequence[ListedOrder], before: datetime, position: datetime, page: int) -> None:
        """Looks at what is unknown or older, and only then moves the position from `before`: past no failure."""
        result = self.result
        found = await compare(self._database, orders, mark_for=None)
        wanted = [order for order in orders if found[order.order_id] in {"unknown", "stale"}]
        errors = await self._look_at(wanted, found)
        still = await compare(self._database, wanted, mark_for=None)
        failures = []
        for order in wanted:
            if still[order.order_id] != "known":
                why = errors.get(order.order_id) or "the answer is dated before what the list shows; it stays due"
                failures.append((order.order_id, why))
        foreign = [(order_id, "no order id; left") for order_id, what in found.items() if what == "foreign"]
        failed = {order_id for order_id, _ in failures + foreign}
        for order in orders:
            if order.order_id in failed:
                self._hold(before if order.created_at is None else order.created_at - OVERLAP)
        if self._held is not None:
            position = min(position, self._held)
        counts = Counter(found.values())
        await self._database.execute(
            QUERIES.move_backfill, result.account, result.from_at, result.to_at, position, page, len(orders),
            counts["unknown"], counts["stale"], f"{failures[0][0]}: {failures[0][1]}" if failures else None,
        )  # fmt: skip
        result.listed += len(orders)
        result.unknown += counts["unknown"]
        result.stale += counts["stale"]
        result.applied += len(wanted) - len(failures)
        result.failures += failures + foreign
        self._shown_ids |= {order.order_id for order in orders}
        result.shown_types |= {order.type for order in orders if order.type is not None}
        self._on_listed(len(orders))

    async def _look_at(self, orders: Sequence[ListedOrder], found: dict[str, str]) -> dict[str, str]:
        """Why looks failed, by order id."""
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)
        errors: dict[str, str] = {}

        async def look(order: ListedOrder) -> None:
            async with slots:
                # A stored order may be another account's of the same seller; that one's token is asked with.
                account = self.result.account if found[order.order_id] == "unknown" else None
                error = await self._look(order.order_id, account)
            is_answered = error is None or error.partition(":")[0] in ABOUT_ONE_ORDER
            self._failed_in_a_row = 0 if is_answered else self._failed_in_a_row + 1
            if error is not None:
                errors[order.order_id] = error
            if self._failed_in_a_row >= FAILURES_IN_A_ROW:
                raise BackfillStoppedError(
                    f"{FAILURES_IN_A_ROW} orders in a row failed, the last: {error}; run it again to go on"
                )

        try:
            async with asyncio.TaskGroup() as tasks:
                for order in orders:
                    tasks.create_task(look(order))
        except ExceptionGroup as group:
            # What stops one look (the database went away) stops all: told once.
            raise group.exceptions[0] from None
        return errors

    async def _search(self, window: Window, *, page_size: int | None = None) -> OrdersPage:
        """One page; trouble of the provider is waited out for a while."""
        for attempt in range(1, TRIES + 1):
            try:
                if page_size is None:
                    return await self._listing.search(window)
                return await self._listing.search(window, page_size=page_size)
            except AccountShutError as shut:
                raise BackfillStoppedError(f"{shut}; run it again to go on") from None
            except ProviderTrouble as error:
                if attempt == TRIES:
                    raise BackfillStoppedError(f"{error.outcome}: {error}; run it again to go on") from None
                await self._wait(
                    max(error.retry_after_seconds or 0.0, backoff_seconds(attempt, 1.0, 60.0, self._random()))
                )
        raise AssertionError("unreachable: the last try returns or raises")

    async def _extend_certificate(self, end: datetime) -> None:
        """All of the range is stored: a certificate that begins within it, or where it ends, begins earlier.

        Not where the list leaves out stored orders of a type that it shows otherwise, as in an hour of the sweep's: it
        may leave out orders that nobody told of, too. An empty list is no evidence of anything.
        """
        result = self.result
        begin = to_the_hour(result.from_at)
        if begin < result.from_at:
            begin += HOUR
        shown = sorted(self._shown_ids)  # there may be millions, and a transaction may not stand still for long
        async with self._database.transaction() as connection:
            certificate = await read_certificate(connection, result.account)
            if certificate is None or not shown:
                return
            left_out = await connection.fetch(
                QUERIES.count_left_out, result.account, begin, min(end, certificate.complete_until), shown
            )
            silent = NEVER_LISTED.union(certificate.blind_types, certificate.types_since)
            doubtful = [row for row in left_out if row["type"] in result.shown_types - silent]
            if doubtful:
                some = ", ".join(
                    f"{row['number']} stored orders of type {row['type']}, such as {row['example']}" for row in doubtful
                )
                result.not_certified = f"the list leaves out {some}"
                return
            types = sorted(result.shown_types.difference(row["type"] for row in left_out))
            result.certified_since = await connection.fetchval(
                QUERIES.extend_certificate, result.account, begin, end, types
            )
            await connection.execute(QUERIES.renew_blind_types, result.account, begin, end, types)
            await connection.execute(QUERIES.widen_types, result.account, begin, end, types)
