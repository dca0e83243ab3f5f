"""The worker loop: claim within the accounts' rates, fetch without a connection, apply in batches, rest when idle."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import structlog

from service.database.batching import NaturalBatcher
from service.database.pool import ITEM_FAULT, UNAVAILABLE, Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.sync.apply import Look, Outcome, apply_looks, with_failure
from service.sync.claims import Claim, claim_due, release
from service.sync.gates import Gates
from service.sync.look import look_at
from service.sync.policies import account_policies
from service.sync.report import report
from service.sync.settle import Failure
from service.telemetry import metrics

DATABASE_REST_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Worker:
    """Serves due orders until told to stop. Any number of them, in any number of processes, share one database.

    `beat` is called whenever the loop makes progress (idle rounds included); `on_committed` after each commit that
    may have recorded events.
    """

    def __init__(
        self,
        database: Database,
        client: MercadoPagoClient,
        *,
        concurrency: int,
        poll_seconds: float,
        lease_seconds: float,
        beat: Callable[[], None] = lambda: None,
        on_committed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._client = client
        self._concurrency = concurrency
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._beat = beat
        self._on_committed = on_committed
        self._clock = clock
        self.gates = Gates(clock)
        self._policies = account_policies(self.gates.account)
        self._wake = asyncio.Event()
        self._stopping = False
        self._held: dict[asyncio.Task[None], Claim] = {}
        self._in_flight: Counter[tuple[str, bool]] = Counter()
        self._database_is_down = False
        # Whether the last round could claim nothing at all, for want of slots or of an open gate, or nothing more of an
        # account that has used its slots; and when a gate that was closed then may open, whatever the others had.
        self._wants_room = False
        self._seconds_until_room: float | None = None
        self._strangers_turn = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._batcher: NaturalBatcher[Look, Outcome] = NaturalBatcher(
            self._flush, name="apply", is_item_fault=_is_item_fault
        )

    def follow(self, accounts: Iterable[Account]) -> None:
        """Takes over changed accounts."""
        self.gates.follow(accounts)
        self._wake.set()

    def wake(self) -> None:
        """Something may be due: this process's own intake has committed."""
        self._wake.set()

    async def run(self) -> None:
        """Until `stop`."""
        self._ended.clear()
        try:
            while not self._stopping:
                self._wake.clear()
                self._beat()
                self.gates.show()
                try:
                    look_on = await self._round()
                except UNAVAILABLE as error:
                    await self._rest_without_database(error)
                    continue
                self._database_is_back()
                if not look_on:
                    await self._rest()
        finally:
            self._ended.set()

    async def _round(self) -> bool:
        """Claims once and begins to serve; whether to look on at once, because more may be due and can be served."""
        # One reading of the clock: room that opens between the two answers would be waited for until the next poll.
        free_slots, now = self._concurrency - len(self._held), self._clock()
        lanes = self.gates.lanes(
            now, free_slots, self._in_flight, self._concurrency, strangers_turn=self._strangers_turn
        )
        self._wants_room = not lanes or self.gates.has_used_its_slots(self._in_flight, self._concurrency)
        self._seconds_until_room = self.gates.seconds_until_room(now)
        if not lanes:
            return False
        claims = await claim_due(self._database, lanes, lease_seconds=self._lease_seconds, at_most=free_slots)
        if self._stopping:
            await release(self._database, claims)
            return False
        taken = Counter((claim.account, claim.known) for claim in claims)
        for account in {claim.account for claim in claims}:
            gate = self.gates.gate(account)
            if gate is not None:
                gate.take(self._clock(), known=taken[account, True], unknown=taken[account, False])
        for claim in claims:
            self._serve(claim)
        if len(claims) >= free_slots or any(taken[lane.account, lane.known] >= lane.room for lane in lanes):
            # There may be more in that queue: rest only when slots or rates are used up.
            self._strangers_turn = False
            return True
        # Where there was room for one only, the strangers have not been asked yet.
        one_sided = len(lanes) < 2 * len({lane.account for lane in lanes})
        self._strangers_turn = one_sided and not self._strangers_turn
        return self._strangers_turn

    async def stop(self, *, within_seconds: float) -> None:
        """Claims no more, finishes what is in flight, releases what does not finish in time."""
        self._stopping = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._ended.wait()
                if self._held:
                    await asyncio.wait(self._held)
        left = dict(self._held)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            with contextlib.suppress(*UNAVAILABLE):
                await release(self._database, left.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._batcher.close()

    def _serve(self, claim: Claim) -> None:
        metrics.sync_seconds.labels("wait").observe(max(0.0, claim.waited_seconds))
        task = asyncio.create_task(self._look_and_apply(claim), name=f"look {claim.order_id}")
        self._held[task] = claim
        self._in_flight[claim.account, claim.known] += 1
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        claim = self._held.pop(task)
        self._in_flight[claim.account, claim.known] -= 1
        if self._wants_room:
            self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of ours. The lease runs out and somebody looks again, a bounded number of times in a row.
            log.error("look_failed", order_id=claim.order_id, exc_info=error)

    async def _look_and_apply(self, claim: Claim) -> None:
        account, gate = self.gates.account(claim.account), self.gates.gate(claim.account)
        if account is None or gate is None:
            await release(self._database, [claim])
            return
        started = self._clock()
        look = await look_at(self._client, account, claim, gate, self._clock, database=self._database)
        fetched = self._clock()
        metrics.sync_seconds.labels("fetch").observe(fetched - started)
        outcome = await self._apply(look, until=started + self._lease_seconds)
        metrics.sync_seconds.labels("apply").observe(self._clock() - fetched)
        if outcome is not None:
            report(outcome)

    async def _apply(self, look: Look, *, until: float) -> Outcome | None:
        """Applies, trying again while the database is away and the lease lasts; afterwards the order is due again."""
        pause = 0.1
        while True:
            try:
                return await self._batcher.submit(look)
            except ITEM_FAULT as error:
                if look.read is None:
                    raise
                # What was read cannot be stored: this order's fault, whatever else is in the batch.
                look = with_failure(look, Failure("unstorable", type(error).__name__, counts=True))
            except UNAVAILABLE as error:
                if self._clock() + pause >= until:
                    log.warning(
                        "apply_given_up",
                        order_id=look.claim.order_id,
                        error=f"{type(error).__name__}: {error}"[:300],
                        advice="it is fetched again; look at the database",
                    )
                    # Not the order's fault, nor its worker's end: it must not count as one.
                    with contextlib.suppress(*UNAVAILABLE):
                        await release(self._database, [look.claim])
                    return None
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)

    async def _flush(self, looks: Sequence[Look]) -> list[Outcome]:
        outcomes = await apply_looks(self._database, looks, **self._policies)
        self._on_committed()
        return outcomes

    async def _rest(self) -> None:
        """Sleeps until woken, until a paused or empty gate may open, or until the next poll."""
        seconds = self._poll_seconds
        if self._seconds_until_room is not None:
            seconds = min(seconds, max(0.005, self._seconds_until_room))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _rest_without_database(self, error: BaseException) -> None:
        if not self._database_is_down:
            self._database_is_down = True
            log.warning("sync_waits_for_database", error=type(error).__name__)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DATABASE_REST_SECONDS):
                await self._wake.wait()
        # A wake-up does not bring the database back: never spin.
        await asyncio.sleep(0.05)

    def _database_is_back(self) -> None:
        if self._database_is_down:
            self._database_is_down = False
            log.info("sync_recovered")


def _is_item_fault(error: BaseException) -> bool:
    return isinstance(error, ITEM_FAULT)
