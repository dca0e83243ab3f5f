"""Searches stand below the looks: they take only what an account's gate has to spare, and move nothing in it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from service.audit.listing import SHUT_SECONDS, YIELD_SECONDS, AccountGoneError, AccountShutError, ProviderList
from service.audit.windows import Window
from service.mercadopago.account import Account
from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    MercadoPagoError,
    NonsenseAnswer,
    RateLimited,
    ServerTrouble,
    Timeout,
)
from service.mercadopago.listing import OrdersPage
from service.mercadopago.pacing import BREAKER_FAILURES, AccountGate
from service.sync.gates import Gates
from tests.support.listing import Asked, BentList
from tests.support.waiting import until

NOON = datetime(2026, 9, 1, 12, 0, 0, tzinfo=UTC)
WINDOW = Window(NOON, NOON, 1)


class Bench:
    """One account, a clock that stands still unless moved, and a list."""

    def __init__(self, rate: float = 50.0) -> None:
        self.now = 1000.0
        self.gates = Gates(lambda: self.now)
        self.gates.follow([Account("shop", access_token="t", rate_per_second=rate)])
        self.shop = BentList()
        self.look_is_due = False
        self.listing = ProviderList(
            self.shop, self.gates, "shop", look_is_due=self._look_is_due, clock=lambda: self.now
        )

    async def _look_is_due(self) -> bool:
        return self.look_is_due

    def count_turns(self) -> Callable[[], Awaitable[bool]]:
        """Whether a waiting search has looked for room a few times since."""
        seen, account = 0, self.gates.account

        def counted(name: str) -> Account | None:
            nonlocal seen
            seen += 1
            return account(name)

        self.gates.account = counted  # type: ignore[method-assign]  # counts, and answers the same

        async def turned() -> bool:
            return seen > 3

        return turned

    @property
    def gate(self) -> AccountGate:
        gate = self.gates.gate("shop")
        assert gate is not None
        return gate

    def fail(self, error: MercadoPagoError) -> None:
        def failing(nth: int, asked: Asked) -> OrdersPage | None:
            raise error

        self.shop.before = failing


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is looked for again at once."""
    monkeypatch.setattr("service.audit.listing.ROOM_SECONDS", (0.0, 0.0))


async def test_a_search_takes_one_of_the_accounts_calls_and_gives_it_back_to_nobody() -> None:
    bench = Bench()
    assert bench.gate.room(bench.now).known == 10
    await bench.listing.search(WINDOW)
    assert bench.gate.room(bench.now).known == 9
    assert bench.gate.well_since is None, "a search says nothing about whether orders can be read"


async def test_a_quarter_of_what_may_start_at_once_is_left_to_the_looks() -> None:
    bench = Bench()
    bench.gate.take(bench.now, known=8)
    waiting = asyncio.create_task(bench.listing.search(WINDOW))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.shop.asked == []
    assert bench.gate.room(bench.now).known == 2
    bench.now += 1.0
    await asyncio.wait_for(waiting, 5)
    assert len(bench.shop.asked) == 1


async def test_a_slow_account_is_searched_too() -> None:
    bench = Bench(rate=0.5)
    await bench.listing.search(WINDOW)
    assert len(bench.shop.asked) == 1


@pytest.mark.parametrize(
    "error",
    [
        ServerTrouble("500", status=500),
        RateLimited("429", status=429, retry_after_seconds=30.0),
        AccountRefused("401", status=401),
        AccountRefused("403", status=403),
        NonsenseAnswer("400", status=400),
        BadRequest("404", status=404),
    ],
)
async def test_what_goes_wrong_with_searches_leaves_the_looks_their_pace(error: MercadoPagoError) -> None:
    bench = Bench()
    bench.fail(error)
    for _ in range(BREAKER_FAILURES + 1):
        with pytest.raises(type(error)):
            await bench.listing.search(WINDOW)
        bench.now += 1
    assert bench.gate.paused(bench.now) is None
    assert bench.gate.rate_per_second == 50.0
    assert bench.gate.room(bench.now).known == 10
    bench.gate.take(bench.now, known=1)
    bench.gate.trouble(bench.now, ServerTrouble("500", status=500))
    assert bench.gate.paused(bench.now) is None, "one look's failure is the first that counts"


@pytest.mark.parametrize("error", [None, AccountRefused("401", status=401), ServerTrouble("500", status=500)])
async def test_an_answer_to_a_search_opens_no_gate_that_the_looks_have_shut(error: MercadoPagoError | None) -> None:
    bench = Bench()

    def shuts(nth: int, asked: Asked) -> OrdersPage | None:
        bench.gate.take(bench.now, known=1)
        bench.gate.refused(bench.now)
        if error is not None:
            raise error
        return None

    bench.shop.before = shuts
    await asyncio.gather(bench.listing.search(WINDOW), return_exceptions=True)
    assert len(bench.shop.asked) == 1
    assert bench.gate.paused(bench.now) == "refused"
    assert bench.gate.room(bench.now + 29).known == 0, "the looks' own time until the next try stands"


async def test_the_try_whether_a_shut_gate_may_open_is_left_to_the_looks(quick: None) -> None:
    bench = Bench()
    bench.gate.take(bench.now, known=1)
    bench.gate.refused(bench.now)
    bench.now += 60
    turns = bench.count_turns()
    waiting = asyncio.create_task(bench.listing.search(WINDOW))
    await until(turns, what="the search looked for room")
    assert bench.shop.asked == []
    assert bench.gate.room(bench.now).known == 1
    bench.gate.take(bench.now, known=1)
    bench.gate.succeeded(bench.now)
    await asyncio.wait_for(waiting, 5)
    assert len(bench.shop.asked) == 1


async def test_a_search_that_waits_long_for_a_shut_gate_says_so(quick: None) -> None:
    bench = Bench()
    bench.gate.take(bench.now, known=1)
    bench.gate.refused(bench.now)
    waiting = asyncio.create_task(bench.listing.search(WINDOW))
    await until(bench.count_turns(), what="the search looked for room")
    bench.now += SHUT_SECONDS
    with pytest.raises(AccountShutError, match=r"account shop \(refused\)"):
        await asyncio.wait_for(waiting, 5)
    assert bench.shop.asked == []
    assert bench.gate.room(bench.now).known == 1, "the looks' own try stands"


async def test_where_there_is_no_call_to_spare_a_search_waits_for_looks_that_are_due(quick: None) -> None:
    bench = Bench(rate=0.5)
    bench.look_is_due = True
    turns = bench.count_turns()
    waiting = asyncio.create_task(bench.listing.search(WINDOW))
    await until(turns, what="the search looked for room")
    assert bench.shop.asked == []
    assert bench.gate.room(bench.now).known == 1
    bench.look_is_due = False
    await asyncio.wait_for(waiting, 5)
    assert len(bench.shop.asked) == 1


async def test_looks_that_never_end_delay_a_search_and_do_not_prevent_it(quick: None) -> None:
    bench = Bench(rate=0.5)
    bench.look_is_due = True
    waiting = asyncio.create_task(bench.listing.search(WINDOW))
    await asyncio.sleep(0)
    bench.now += YIELD_SECONDS
    await asyncio.wait_for(waiting, 5)
    assert len(bench.shop.asked) == 1


async def test_where_there_are_calls_to_spare_looks_that_are_due_hold_up_nothing() -> None:
    bench = Bench(rate=50.0)
    bench.look_is_due = True
    await asyncio.wait_for(bench.listing.search(WINDOW), 5)
    assert len(bench.shop.asked) == 1


class Clock:
    """A database that tells the time."""

    async def fetchval(self, query: str) -> datetime:
        del query
        return NOON


@pytest.mark.parametrize(
    "error",
    [
        AccountRefused("403", status=403),
        BadRequest("404", status=404),
        BadRequest("405", status=405),
        RateLimited("429", status=429),
        ServerTrouble("500", status=500),
        NonsenseAnswer("the answer names no user", status=200),
        Timeout("no whole answer within 10 s"),
    ],
)
async def test_a_provider_that_does_not_say_who_the_token_is_leaves_its_clock_unknown(error: MercadoPagoError) -> None:
    bench = Bench()
    bench.shop.refuses = error
    now = await bench.listing.now(Clock(), this_machine=NOON + timedelta(hours=1))  # type: ignore[arg-type]  # a clock will do
    assert (now.reach, now.certain, now.is_refused) == (NOON, NOON, True)


async def test_a_token_that_is_refused_ends_it() -> None:
    bench = Bench()
    bench.shop.refuses = AccountRefused("401", status=401)
    with pytest.raises(AccountRefused):
        await bench.listing.now(Clock(), this_machine=NOON)  # type: ignore[arg-type]  # a clock will do


async def test_an_account_that_is_gone_ends_the_search() -> None:
    bench = Bench()
    bench.gates.follow([])
    with pytest.raises(AccountGoneError):
        await bench.listing.search(WINDOW)


async def test_a_search_that_is_cancelled_leaves_the_gate_as_it_was() -> None:
    bench = Bench()
    started = asyncio.Event()

    async def hanging(account: Account, **_: object) -> OrdersPage:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    bench.shop.search_orders = hanging  # type: ignore[method-assign]  # this one call hangs
    task = asyncio.create_task(bench.listing.search(WINDOW))
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async def is_over() -> bool:
        return bench.gate._in_flight == 0

    await until(is_over, what="the call is over")
