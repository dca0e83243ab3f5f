"""The delivery engine: every notification tried, retried, doubled, held back or lost, as the faults in force say.

Success is 200 or 201 alone; redirects are not followed; each attempt is signed afresh, a retry keeps body and request
id. Retries wait on the simulated clock, all other waits are real time.
"""

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta

import aiohttp
from yarl import URL

from .clock import SimulatedClock
from .config import RETRY_LADDER_SECONDS, SimulatorConfig
from .deliveries import Delivery, DeliveryLog
from .draws import Draws
from .faults import FaultPlan
from .ids import uuid_text
from .ledger import SimulatedOrder
from .notices import Notice, feed_notice, order_notice
from .signing import signature_headers

QUEUED, RUNNING, RETRYING = "queued", "running", "retrying"
_SUCCESS = frozenset({200, 201})


class Notifier:
    """Delivers to the webhook URL, or the one a notice names, at most `delivery_concurrency` messages at a time."""

    def __init__(self, config: SimulatorConfig, clock: SimulatedClock, draws: Draws, faults: FaultPlan) -> None:
        self.url = config.webhook_url
        self.secret = config.webhook_secret
        self.log = DeliveryLog(config.log_size)
        self._config = config
        self._clock = clock
        self._draws = draws
        self._faults = faults
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(config.delivery_concurrency)
        self._under_way: set[asyncio.Task[None]] = set()
        self._held: defaultdict[str, list[tuple[int, asyncio.Event]]] = defaultdict(list)
        self._numbers = 0
        self._stirred = asyncio.Event()

    async def start(self) -> None:
        """Open the connections' pool."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def stop(self) -> None:
        """Drop what is under way and close."""
        await self.reset()
        if self._session is not None:
            await self._session.close()

    async def reset(self) -> None:
        """Drop what is under way, and forget what was delivered."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._held.clear()
        self._numbers = 0
        self.log.reset()

    def announce(self, order: SimulatedOrder, action: str) -> None:
        """Send word of an order's present state, through whatever faults are in force."""
        faults = self._faults.notification
        about, delay = self.announce_notice(order_notice(order, action, self._draws), order.key)
        if delay is not None and self._draws.fraction("legacy", *about) < faults.legacy:
            legacy = feed_notice("merchant_order", str(36 * 10**9 + self._draws.below(10**9, "legacy-id", *about)))
            self._start(self._delivery(legacy, (*about, "legacy")), delay)

    def announce_notice(self, notice: Notice, key: str) -> tuple[tuple[object, ...], float | None]:
        """Send one message through the faults in force. Returns what its draws are about, and its delay unless lost.

        `key` names in draws whom it is about; the notice's `order_id` is what its tally is kept under.
        """
        faults = self._faults.notification
        self.log.announced(notice)
        about = (key, self.log.tallies[notice.order_id or ""].notifications)
        delivery = self._delivery(notice, about)
        if self._draws.fraction("drop", *about) < faults.drop:
            self.log.ended(delivery, "dropped", None, self._clock.now())
            return about, None
        delay = self._draws.below(faults.delay_ms + 1, "delay", *about) / 1000
        held = self._draws.fraction("reorder", *about) < faults.reorder
        self._start(delivery, delay, faults.reorder_hold_ms / 1000 if held else None)
        if self._draws.fraction("duplicate", *about) < faults.duplicate:
            gap = self._draws.below(faults.duplicate_gap_ms + 1, "gap", *about) / 1000
            self._start(self._delivery(notice, (*about, "copy"), duplicate=True), delay + gap)
        return about, delay

    def send(self, notice: Notice, *, retry: bool) -> tuple[Delivery, asyncio.Task[None] | None]:
        """Send one message past all faults. The task (none without a webhook URL) ends with its last attempt."""
        self.log.announced(notice)
        delivery = self._delivery(notice, ("on-demand", self._numbers), faulty=False, retry=retry)
        return delivery, self._start(delivery)

    def idle(self, ignore_retries: bool = False) -> bool:
        """Whether nothing is queued or running (or waiting for a retry)."""
        states = self.log.states
        return not (states[QUEUED] or states[RUNNING] or (states[RETRYING] and not ignore_retries))

    async def wait_idle(self, timeout_seconds: float, ignore_retries: bool = False) -> bool:
        """Wait until `idle`; false when the time is over first."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self.idle(ignore_retries):
                    await self._stirred.wait()
        except TimeoutError:
            return False
        return True

    def _delivery(
        self,
        notice: Notice,
        about: tuple[object, ...],
        duplicate: bool = False,
        faulty: bool = True,
        retry: bool = True,
    ) -> Delivery:
        self._numbers += 1
        faults = self._faults.notification
        sign = notice.sign or (self._drawn_sign(about) if faulty else "lowercase")
        return Delivery(
            number=self._numbers,
            notice=notice,
            request_id=uuid_text(self._draws.number("request-id", *about)),
            sign=sign,
            duplicate=duplicate,
            retry=retry,
            clock_skew_seconds=faults.clock_skew_seconds if faulty else 0.0,
        )

    def _drawn_sign(self, about: tuple[object, ...]) -> str:
        draw = self._draws.fraction("sign", *about)
        for variant, share in self._faults.notification.sign.items():
            if draw < share:
                return variant
            draw -= share
        return "lowercase"

    def _start(
        self, delivery: Delivery, delay_seconds: float = 0.0, hold_seconds: float | None = None
    ) -> asyncio.Task[None] | None:
        if delivery.notice.url is None and self.url is None:
            self.log.ended(delivery, "no_webhook_url", None, self._clock.now())
            return None
        self._enter(delivery, QUEUED)
        task = asyncio.create_task(self._carry(delivery, delay_seconds, hold_seconds))
        self._under_way.add(task)
        task.add_done_callback(lambda done: self._leave(done, delivery))
        return task

    def _enter(self, delivery: Delivery, state: str) -> None:
        states = self.log.states
        if delivery.state:
            states[delivery.state] -= 1
        if state:
            states[state] += 1
        delivery.state = state
        stirred, self._stirred = self._stirred, asyncio.Event()
        stirred.set()

    def _leave(self, task: asyncio.Task[None], delivery: Delivery) -> None:
        self._under_way.discard(task)
        self._enter(delivery, "")
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.ended(delivery, f"broken: {type(error).__name__}", None, self._clock.now())

    async def _carry(self, delivery: Delivery, delay_seconds: float, hold_seconds: float | None) -> None:
        order_id = delivery.notice.order_id
        if delay_seconds > 0:
            await asyncio.sleep(delay_seconds)
        if hold_seconds is not None and order_id is not None:
            overtaken = asyncio.Event()
            self._held[order_id].append((delivery.notice.version or 0, overtaken))
            with suppress(TimeoutError):
                await asyncio.wait_for(overtaken.wait(), hold_seconds)
        for attempt, wait_seconds in enumerate(RETRY_LADDER_SECONDS):
            if wait_seconds > 0:
                self._enter(delivery, RETRYING)
                pause = timedelta(seconds=wait_seconds / self._config.time_compression)
                await self._clock.wait_until(self._clock.now() + pause)
                self._enter(delivery, QUEUED)
            delivery.attempt = attempt
            async with self._slots:
                self._enter(delivery, RUNNING)
                outcome, status = await self._post(delivery)
            self.log.ended(delivery, outcome, status, self._clock.now())
            self._release_older(delivery.notice)
            if outcome == "delivered" or not delivery.retry:
                return

    def _release_older(self, notice: Notice) -> None:
        """Let go of what was held back until this one had overtaken it."""
        held = self._held.pop(notice.order_id or "", ())
        for version, overtaken in held:
            if version < (notice.version or 0):
                overtaken.set()
            else:
                self._held[notice.order_id or ""].append((version, overtaken))

    async def _post(self, delivery: Delivery) -> tuple[str, int | None]:
        notice, config = delivery.notice, self._config
        url = notice.url or self.url
        if self._session is None or url is None:
            return "no_webhook_url", None
        seconds = config.retry_timeout_seconds if delivery.attempt else config.first_timeout_seconds
        try:
            async with self._session.post(
                URL(url).extend_query(notice.query),
                data=notice.body,
                headers=self._headers(delivery),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds / config.timeout_compression),
            ) as response:
                status = response.status
                with suppress(aiohttp.ClientError):
                    await response.content.read(65536)
        except TimeoutError:
            return "timeout", None
        except (aiohttp.ClientError, OSError, ValueError):
            return "connection_error", None
        return ("delivered" if status in _SUCCESS else "refused"), status

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        notice = delivery.notice
        at = self._clock.now() + timedelta(seconds=delivery.clock_skew_seconds)
        trace = f"{self._draws.number('trace', delivery.request_id):032x}"
        return {
            "Accept": "*/*",
            "Accept-Encoding": "*",
            "Content-Type": "application/json",
            "Traceparent": f"00-{trace}-{trace[:16]}-00",
            "User-Agent": notice.user_agent,
            "X-Rest-Pool-Name": "/services/webhooks.js",
            "X-Retry": str(delivery.attempt),
            "X-Socket-Timeout": "22000",
            **signature_headers(delivery.sign, notice.secret or self.secret, notice.data_id, delivery.request_id, at),
            **notice.headers,
        }
