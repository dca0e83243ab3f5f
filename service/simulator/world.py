"""One simulated Mercado Pago: its books, clock, faults, deliveries and logs, and what ties them together."""

import asyncio
from collections import Counter, deque
from datetime import datetime
from typing import Any

from aiohttp import web

from . import lifecycle
from .agenda import Agenda
from .clock import SimulatedClock, format_time
from .config import SimulatorConfig
from .draws import Draws
from .faults import FaultPlan
from .idempotency import IdempotencyStore
from .in_store import InStoreBook
from .ledger import Change, Ledger, SimulatedOrder
from .money import Json
from .notifier import Notifier
from .places import Place
from .rules import usual_rules

EXPIRY_TICK_SECONDS = 0.05


class RequestLog:
    """The API calls of late, in a bounded ring, and all of them counted. It never sees a token."""

    def __init__(self, size: int) -> None:
        self.entries: deque[dict[str, Any]] = deque(maxlen=size)
        self.counts: dict[str, Counter[str]] = {}
        self.total = 0

    def reset(self) -> None:
        """Forget all."""
        self.entries.clear()
        self.counts.clear()
        self.total = 0

    def add(self, entry: dict[str, Any]) -> None:
        """Write one call down."""
        self.total += 1
        self.entries.append({"n": self.total, **entry})
        self.counts.setdefault(entry["operation"], Counter())[str(entry["status"])] += 1


class World:
    """Everything one simulator knows. Changes of orders go through `happened`, which sends word of them."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.draws = Draws(config.seed)
        self.clock = SimulatedClock(config.start_at, config.speed)
        self.ledger = Ledger(config, self.draws)
        self.faults = FaultPlan(self.draws)
        self.notifier = Notifier(config, self.clock, self.draws, self.faults)
        self.requests = RequestLog(config.log_size)
        self.idempotency = IdempotencyStore()
        self.in_store = InStoreBook(config, self.draws)
        self.rules = usual_rules(config)
        self.agenda = Agenda()
        self.closing = asyncio.Event()

    def change(
        self, order: SimulatedOrder, change: Change, notify: bool | str = True, at: datetime | None = None
    ) -> None:
        """Let something happen to an order, now or as of `at`, and send word of it."""
        self.happened(order, self.ledger.change(order, change, at or self.clock.now()), notify)

    def took_place(self, order: SimulatedOrder) -> None:
        """A new order stands on a printed QR: the legacy order there is shown no more, its other ones by the rule."""
        if order.place is None or order.place[0] != "pos":
            return
        self.in_store.replace(order.place[1], order.place[2])
        self.give_way(order.place, but=order)

    def give_way(self, place: Place, but: SimulatedOrder | None = None) -> None:
        """Cancel what stood on a printed QR before, where the rules say that a new order does that."""
        if self.rules.replaced_order == "canceled":
            for other in self.ledger.open_at(place):
                if other is not but and other.status == "created":
                    self.change(other, lambda body, _: lifecycle.cancel(body, status_detail="canceled"))

    def happened(self, order: SimulatedOrder, event: str | None, notify: bool | str = True) -> None:
        """Send word of a change that was made: `event`, another action by name, or nothing."""
        action = notify if isinstance(notify, str) else event
        if notify and action:
            self.notifier.announce(order, action)

    def expire_due(self) -> None:
        """Let every order run out whose time has come, and all else happen that was set for later, in its order."""
        now = self.clock.now()
        while (entry := self.agenda.pop_due(now)) is not None:
            due, act = entry
            self._expire_orders(due)
            act(due)
        self._expire_orders(now)

    def _expire_orders(self, now: datetime) -> None:
        for order, event in self.ledger.expire_due(now):
            self.happened(order, event)

    async def expire_forever(self) -> None:
        """Expiries happen by themselves, too, not only when somebody looks."""
        while True:
            self.expire_due()
            await asyncio.sleep(EXPIRY_TICK_SECONDS)

    async def reset(self, seed: int | None = None) -> None:
        """A fresh world; where notifications go stays as it was set."""
        await self.notifier.reset()
        self.draws.reseed(self.config.seed if seed is None else seed)
        self.ledger.reset()
        self.faults.forget()
        self.requests.reset()
        self.idempotency.reset()
        self.in_store.reset()
        self.agenda.reset()
        self.rules = usual_rules(self.config)
        self.clock.reset()

    def clock_state(self) -> Json:
        """The answer of `/_sim/clock`."""
        return {"now": format_time(self.clock.now()), "speed": self.clock.speed}


WORLD = web.AppKey("world", World)
