"""The runner: the one executor of commands. Claims what is due, calls Mercado Pago without a connection, commits.

    claim (committed: from here on it may have been sent) -> call -> outcome (committed)

A crash between any two of these leaves a lease that runs out; whoever claims the command next sends it again under the
same provider key, so that it takes effect once. After 20 hours nothing is sent again: see `service.desk.search`.

Each process of a working role runs one. They share the work through the database, like the workers of `service.sync`.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import structlog

from service.database.pool import UNAVAILABLE, Database
from service.desk.attempt import attempt
from service.desk.calls import send_cancel, send_create, send_refund
from service.desk.declined import compare_creation
from service.desk.intents import QUERIES
from service.desk.legacy import LEGACY_DELETE, LEGACY_PUT
from service.desk.outcomes import Outcome
from service.desk.search import RESEND_FOR, compare_cancel, compare_refund
from service.desk.settle import commit_outcome, due_after, settle_seen, tell_unknown_outcomes, withdraw_stale
from service.desk.work import CREATE_LATE_SECONDS, Executor, Tools, Work, work_of
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.pacing import AccountGate
from service.telemetry import crashpoints

CONCURRENCY: Final = 8
# A lease that ends before its call has an answer is taken by the next runner, and by the next, and never settled.
SHORTEST_LEASE_SECONDS: Final = 20.0
DATABASE_REST_SECONDS: Final = 1.0
# Commands of an account that nothing goes out for are looked at again so soon, or when its gate may open.
PAUSED_SECONDS: Final = (0.25, 5.0)
UNKNOWN_EVERY_SECONDS: Final = 15.0
# Another process's claim of the same account is over by then.
_OTHERS_CLAIM_SECONDS: Final = 0.02
_OUTCOME_PAUSE_SECONDS: Final = (0.1, 2.0)

EXECUTORS: Final[Mapping[str, Executor]] = MappingProxyType(
    {
        "create": Executor(send_create, compare_creation),
        "cancel": Executor(send_cancel, compare_cancel),
        "refund": Executor(send_refund, compare_refund),
        "legacy_put": LEGACY_PUT,
        "legacy_delete": LEGACY_DELETE,
    }
)
"""How each kind of command is carried out."""

log = structlog.get_logger(__name__)


class Runner:
    """Carries out commands until told to stop. Any number of them, in any number of processes, share one database.

    `account` and `gate` find an account's settings and its pace in this process, by name. `beat` is called whenever the
    loop makes progress; `on_committed` after each commit that may have recorded events or marked orders due. A lease
    lasts `lease_seconds`, and at least 20 s and twice as long as one call may take.
    """

    def __init__(
        self,
        database: Database,
        client: MercadoPagoClient,
        *,
        account: Callable[[str], Account | None],
        gate: Callable[[str], AccountGate | None],
        executors: Mapping[str, Executor] = EXECUTORS,
        concurrency: int = CONCURRENCY,
        poll_seconds: float = 0.5,
        lease_seconds: float = 60.0,
        beat: Callable[[], None] = lambda: None,
        on_committed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._tools = Tools(database, client, clock)
        self._account = account
        self._gate = gate
        self._executors = executors
        self._concurrency = concurrency
        self._poll_seconds = poll_seconds
        self._lease_seconds = max(lease_seconds, SHORTEST_LEASE_SECONDS, 2 * client.total_timeout_seconds)
        self._beat = beat
        self._on_committed = on_committed
        self._clock = clock
        self._wake = asyncio.Event()
        self._stopping = False
        self._held: dict[asyncio.Task[None], Work] = {}
        self._served_last: dict[str, float] = {}
        self._database_is_down = False
        self._next_unknown = clock()
        self._ended = asyncio.Event()
        self._ended.set()

    def wake(self) -> None:
        """Something may be due: this process has written a command down."""
        self._wake.set()

    async def run(self) -> None:
        """Until `stop`."""
        self._ended.clear()
        try:
            while not self._stopping:
                self._wake.clear()
                self._beat()
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

    async def stop(self, *, within_seconds: float) -> None:
        """Claims nothing more, lets what is under way finish in time, and gives the rest back."""
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
            for work in left.values():
                await self._release(work, unsent=False)

    async def _round(self) -> bool:
        """Everything that is due, once; whether to look on at once because there may be more."""
        if self._clock() >= self._next_unknown:
            self._next_unknown = self._clock() + UNKNOWN_EVERY_SECONDS
            if await tell_unknown_outcomes(self._database):
                self._on_committed()
        rows = await self._database.fetch(QUERIES.read_due_commands)
        if any(row["to_withdraw"] for row in rows):
            await withdraw_stale(self._database)
        if any(row["to_see"] for row in rows):
            for command in await settle_seen(self._database):
                log.debug("command_seen", command_id=command.command_id)
            self._on_committed()
        wanted = {row["account"]: row["to_call"] for row in rows if row["to_call"]}
        return await self._claim(wanted) if wanted else False

    async def _claim(self, wanted: Mapping[str, int]) -> bool:
        """Claims commands of the accounts that anything may go out for, and puts the others off."""
        # A slow account leaves room for the others.
        share = self._concurrency if len(wanted) < 2 else max(1, self._concurrency // 2)
        in_flight = Counter(work.command.account for work in self._held.values())
        rooms: dict[str, int] = {}
        paused: dict[str, tuple[float, str]] = {}
        for name in wanted:
            room, pause = self._room(name)
            if pause is not None:
                paused[name] = pause
            elif (room := min(room, share - in_flight[name])) > 0:
                rooms[name] = room
        if paused:
            await self._database.execute(
                QUERIES.postpone_commands,
                list(paused),
                [seconds for seconds, _ in paused.values()],
                [reason for _, reason in paused.values()],
            )
            self._wake_in(min(seconds for seconds, _ in paused.values()))
        free = self._concurrency - len(self._held)
        if not rooms or free <= 0:
            return False
        # Whoever has least under way comes first: where slots are scarce, nobody starves.
        rooms = dict(sorted(rooms.items(), key=lambda one: (in_flight[one[0]], self._served_last.get(one[0], 0.0))))
        # The lease as it is known here ends no later than in the database.
        until = self._clock() + self._lease_seconds
        works = await self._take(rooms, free)
        crashpoints.reach("desk.claimed")
        if self._stopping:
            for work in works:
                await self._release(work, unsent=work.is_first)
            return False
        for work in works:
            self._served_last[work.command.account] = self._clock()
            self._serve(work, until=until)
        return len(works) >= free

    async def _take(self, rooms: Mapping[str, int], free: int) -> list[Work]:
        """Claims, of each account in turn with other processes; whoever comes second comes again in a moment."""
        async with self._database.transaction() as connection:
            ours = {row["account"] for row in await connection.fetch(QUERIES.lock_claims, list(rooms))}
            rows = await connection.fetch(
                QUERIES.claim_due_commands,
                [name for name in rooms if name in ours],
                [room for name, room in rooms.items() if name in ours],
                free,
                self._lease_seconds,
                RESEND_FOR.total_seconds(),
            )
        if len(ours) < len(rooms):
            self._wake_in(_OTHERS_CLAIM_SECONDS)
        return [work_of(row) for row in rows]

    def _room(self, name: str) -> tuple[int, tuple[float, str] | None]:
        """How many commands of an account may go out now; where none may, when to ask again and why.

        A command goes before looks: what is left of the rate does not hold it up, and is owed. A pause does.
        """
        gate = self._gate(name)
        shortest, longest = PAUSED_SECONDS
        if gate is None or self._account(name) is None:
            return 0, (longest, f"account: {name} is not configured here")
        now = self._clock()
        why = gate.paused(now)
        if why is None:
            return self._concurrency, None
        if gate.room(now).known > 0:
            return 1, None
        wait = gate.next_change(now) or shortest
        return 0, (min(longest, max(shortest, wait)), f"{why}: nothing goes out for account {name} now")

    def _serve(self, work: Work, *, until: float) -> None:
        command = work.command
        gate, account = self._gate(command.account), self._account(command.account)
        if gate is None or account is None:
            task = asyncio.create_task(self._release(work, unsent=work.is_first))
        else:
            gate.take(self._clock(), known=1)
            task = asyncio.create_task(
                self._carry_out(work, account, gate, until=until), name=f"command {command.command_id}"
            )
        self._held[task] = work
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        work = self._held.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of ours. The lease runs out, and the command is sent again under the same key.
            log.error("command_failed", command_id=work.command.command_id, exc_info=error)
        self._wake.set()

    async def _carry_out(self, work: Work, account: Account, gate: AccountGate, *, until: float) -> None:
        late = CREATE_LATE_SECONDS if work.command.kind == "create" and not work.is_past else self._lease_seconds / 2
        if self._clock() >= until - self._lease_seconds + late:
            # Frozen since the claim: what is sent so late could be under way when somebody else has the command.
            gate.abandoned(self._clock())
            log.warning("command_lease_over", command_id=work.command.command_id, advice="it is claimed again")
            return
        executor = self._executors[work.command.kind]
        crashpoints.reach("desk.sending")
        outcome, answer = await attempt(executor, self._tools, account, work, gate, self._clock)
        crashpoints.reach("desk.called")
        await self._commit(work, account, outcome, answer, until=until)

    async def _commit(
        self, work: Work, account: Account, outcome: Outcome, answer: str | None, *, until: float
    ) -> None:
        """Commits, trying again while the database is away and the lease lasts; afterwards somebody sends it again."""
        pause, longest = _OUTCOME_PAUSE_SECONDS
        while True:
            try:
                settled = await commit_outcome(self._database, work, outcome, answer, keep_payer=account.keep_payer)
                break
            except UNAVAILABLE as error:
                if self._clock() + pause >= until:
                    log.warning(
                        "outcome_given_up",
                        command_id=work.command.command_id,
                        error=type(error).__name__,
                        advice="it is sent again under the same key; look at the database",
                    )
                    return
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
        if settled is None:
            log.warning(
                "command_lease_lost",
                command_id=work.command.command_id,
                advice="another runner serves it now, under the same key",
            )
            return
        self._on_committed()
        if (seconds := due_after(outcome)) is not None:
            self._wake_in(seconds)

    async def _release(self, work: Work, *, unsent: bool) -> None:
        """Gives a claim back. One whose call may have begun is unknown, and due at once."""
        with contextlib.suppress(*UNAVAILABLE):
            await self._database.execute(QUERIES.release_command, work.command.command_id, work.lease_token, unsent)

    def _wake_in(self, seconds: float) -> None:
        """Sooner than the next poll, where something falls due before it."""
        if seconds < self._poll_seconds and not self._stopping:
            asyncio.get_running_loop().call_later(max(0.01, seconds), self._wake.set)

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._wake.wait()

    async def _rest_without_database(self, error: BaseException) -> None:
        if not self._database_is_down:
            self._database_is_down = True
            log.warning("desk_waits_for_database", error=type(error).__name__)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DATABASE_REST_SECONDS):
                await self._wake.wait()
        # A wake-up does not bring the database back: never spin.
        await asyncio.sleep(0.05)

    def _database_is_back(self) -> None:
        if self._database_is_down:
            self._database_is_down = False
            log.info("desk_recovered")
