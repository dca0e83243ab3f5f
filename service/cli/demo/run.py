"""`cuadre demo` from the first line to the last."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
from rich.console import Console

from service.cli.demo.compare import canonical, compare_discrepancies
from service.cli.demo.drive import Driver, Sightings
from service.cli.demo.faults import FAULTS, count_dealt
from service.cli.demo.household import Household
from service.cli.demo.programme import plan_day, plan_trickle
from service.cli.demo.provider import Provider
from service.cli.demo.report import Report, print_report
from service.cli.demo.settle import settle
from service.cli.demo.show import Show
from service.cli.demo.stored import Books
from service.cli.failures import EXIT_FOUND, CommandError
from service.database.pool import Database
from service.settings import load_settings

EXIT_INTERRUPTED = 130
START_SECONDS = 60.0
TRICKLE_SECONDS = 3.0
POLL_SECONDS = 0.05
PROGRESS_SECONDS = 0.2
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(*, once: bool, orders: int, data_dir: Path | None) -> int:
    """One day of orders, against processes of its own; without `once` they run on until Ctrl-C. Main thread only.

    0 where what is stored equals the provider's books and exactly the planted discrepancies were found, or after
    Ctrl-C; 3 where not (with `once`); 130 where `once` was interrupted. Raises `CommandError` and
    `EmbeddedPostgresError`, whose one line says what to do.
    """
    started = time.monotonic()
    # Of the reader's settings only this one counts: a demo must not touch his database.
    settings = load_settings({name: value for name, value in os.environ.items() if name == "CUADRE_DATA_DIR"})
    household = Household(data_dir or settings.data_dir)
    demo = _Demo(
        household, Console(highlight=False), once=once, orders=orders, seed=secrets.randbits(32), started=started
    )
    try:
        with _ending_signals_interrupt():
            demo.greet()
            household.start(demo.seed)
            holds = asyncio.run(_until_interrupted(demo.day()))
            if once:
                return 0 if holds else EXIT_FOUND
            asyncio.run(_until_interrupted(demo.go_on()))
            return 0
    except KeyboardInterrupt:
        demo.say("Stopping.")
        return EXIT_INTERRUPTED if once else 0
    finally:
        _stop(household)


async def _until_interrupted(work: Coroutine[Any, Any, bool]) -> bool:
    """Does the work; a signal to end cancels it, in order, and becomes a `KeyboardInterrupt`."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, _interrupt)


@contextmanager
def _ending_signals_interrupt() -> Iterator[None]:
    """Outside of the event loop, every signal to end is a Ctrl-C."""
    before = {number: signal.signal(number, _interrupt) for number in _ENDING}
    try:
        yield
    finally:
        # Nothing shall keep us from stopping what runs; each stop has its own deadline.
        for number in before:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(household: Household) -> None:
    try:
        household.stop()
    finally:
        for number in _ENDING:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class _Demo:
    """One run. `day` is the part that is compared, `go_on` the trickle after it."""

    def __init__(
        self, household: Household, console: Console, *, once: bool, orders: int, seed: int, started: float
    ) -> None:
        self.once = once
        self.household = household
        self.console = console
        self.orders = orders
        self.seed = seed
        self._started = started
        self._first_seconds: float | None = None

    def say(self, line: str) -> None:
        """A line that stays, never broken."""
        self.console.print(line, soft_wrap=True, markup=False)

    def greet(self) -> None:
        """What is about to happen."""
        self.say(f"Cuadre demo: a day of {self.orders} orders at a simulated Mercado Pago that misbehaves.")
        self.say(f"Starting PostgreSQL, the simulator and the service (data in {self.household.folder}) ...")
        sys.stdout.flush()

    async def day(self) -> bool:
        """Runs the plan, waits until all is caught up, reports. Whether both comparisons hold."""
        async with self._connected() as (provider, books):
            with Show(self.console, self.orders) as show:
                report = await self._watched(self._day(provider, books, show))
            print_report(self.console, report, self.household, once=self.once)
            return bool(report.holds)

    async def go_on(self) -> bool:
        """New orders, a few in ten seconds, until cancelled."""
        self.say("Still running, with a few new orders every ten seconds. Ctrl-C ends it.")
        async with self._connected() as (provider, books):
            await self._watched(self._trickle(provider, books))
        return True

    def _connected(self) -> "_Connected":
        return _Connected(self.household)

    async def _watched(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The work's result; a child that ends meanwhile ends the work."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                self.household.check()
                await asyncio.wait([task], timeout=PROGRESS_SECONDS)
            return task.result()
        except Exception:
            # Whatever failed: a child that is gone is the reason.
            self.household.check()
            raise
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def _day(self, provider: Provider, books: Books, show: Show) -> Report:
        await _ready(provider, self.household)
        show.say(f"Ready after {self._seconds():.1f} s; the provider loses, doubles and delays notifications.")
        await books.retire_earlier_runs()
        await provider.configure("webhook", self.household.webhook())
        await provider.configure("faults", FAULTS)
        sightings = Sightings(books)
        driver = Driver(provider, sightings)

        async def progress() -> None:
            show.update(driver.sent, await books.count())

        watching = [
            asyncio.create_task(sightings.look_for_ever()),
            asyncio.create_task(self._greet_first(provider, books, show)),
            asyncio.create_task(_often(progress)),
        ]
        try:
            await driver.run(plan_day(self.household.run, self.seed, self.orders))
            settled = await settle(provider, books, progress)
            return Report(
                settled=settled,
                discrepancies=compare_discrepancies(driver.planted, driver.to_resolve, await books.discrepancies()),
                dealt=count_dealt(await provider.notifications(), await provider.answers_given()),
                deliveries=await books.deliveries(),
                seconds=self._seconds(),
            )
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _trickle(self, provider: Provider, books: Books) -> None:
        scenes = (plan_trickle(self.household.run, self.seed, number) for number in count(self.orders + 1))
        await Driver(provider, Sightings(books)).run(scenes, per_second=1 / TRICKLE_SECONDS)

    async def _greet_first(self, provider: Provider, books: Books, show: Show) -> None:
        """Says when the first order is stored as the provider has it."""
        while True:
            for order in (await books.orders()).values():
                if canonical(await provider.order(order.order_id)) == canonical(order.payload):
                    show.say(f"First order reconciled {self._seconds():.1f} s after the start: {order.order_id}")
                    return
            await asyncio.sleep(POLL_SECONDS)

    def _seconds(self) -> float:
        return time.monotonic() - self._started


class _Connected:
    """The provider's control side and the stored rows, for the time of a block."""

    def __init__(self, household: Household) -> None:
        self._household = household

    async def __aenter__(self) -> tuple[Provider, Books]:
        self._provider = Provider(self._household.ports.simulator_url)
        self._database = await Database.connect(
            self._household.postgres.dsn, max_size=3, application_name="cuadre demo"
        )
        return self._provider, Books(self._database, self._household.run)

    async def __aexit__(self, *_: object) -> None:
        await self._provider.__aexit__()
        await self._database.close(1.0)


async def _ready(provider: Provider, household: Household) -> None:
    """Until the simulator answers and the service says that it is ready."""
    try:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
            while True:
                if await provider.answers() and await _is_ready(session, household):
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise CommandError(
            f"the service was not ready within {START_SECONDS:.0f} s (see the logs in {household.files})"
        ) from None


async def _is_ready(session: aiohttp.ClientSession, household: Household) -> bool:
    try:
        async with session.get(f"{household.ports.internal_url}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def _often(look: Any) -> None:
    while True:
        await look()
        await asyncio.sleep(PROGRESS_SECONDS)
