"""The simulated provider's books: every order, what a GET shows of it, when it expires, what a search may find.

Pure state: it is told the time and does no I/O.
"""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from . import lifecycle
from .clock import floor_to, format_time, parse_time
from .config import SimulatorConfig
from .draws import Draws
from .merge import copied, deep_merge
from .money import CENT, Json
from .payloads import date_step, dump_json, expires_at, new_order, payments_of, shown
from .places import Place, place_of
from .spec import OrderSpec

Change = Callable[[Json, lifecycle.Chance], str | None]
"""Alters a body and returns the event it deserves."""

_NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class SimulatedOrder:
    """One order. `version` counts its changes, 1 at creation; `rendered` is what a GET answers, `previous` did before.

    `paid_at` is when money landed on it, `place` where it stands while it is open.
    `key` names the order in draws, `owner` the seller who alone may read it (`None`: anyone), `indexed_at` the moment
    from which the search's lag is counted.
    """

    order_id: str
    key: str
    body: Json
    indexed_at: datetime
    owner: str | None = None
    quirks: frozenset[str] = frozenset()
    version: int = 1
    view: Json = field(default_factory=dict)
    rendered: bytes = b""
    previous: bytes = b""
    created_at: datetime = _NO_DATE
    expiry_due: datetime | None = None
    paid_at: datetime | None = None
    place: Place | None = None

    @property
    def status(self) -> str:
        """The order's own status."""
        return str(self.body.get("status"))

    @property
    def updated_at(self) -> datetime:
        """The provider's `last_updated_date`, or long ago when the body has none."""
        return _date_of(self.body, "last_updated_date")


class Ledger:
    """All orders of one simulator."""

    def __init__(self, config: SimulatorConfig, draws: Draws) -> None:
        self.config = config
        self.draws = draws
        self.orders: dict[str, SimulatedOrder] = {}
        self._by_creation: list[tuple[datetime, str]] = []
        self._expiries: list[tuple[datetime, str]] = []
        self._references: Counter[str] = Counter()
        self._places: dict[Place, dict[str, SimulatedOrder]] = {}
        self._newest: dict[Place, SimulatedOrder] = {}

    def reset(self) -> None:
        """Forget every order."""
        for book in (self.orders, self._by_creation, self._expiries, self._references, self._places, self._newest):
            book.clear()

    def create(self, spec: OrderSpec, now: datetime) -> tuple[SimulatedOrder, str | None]:
        """A new order, taken step by step to the state asked for. Returns it and the event of its last step.

        Raises `ValueError` when the id is taken, `lifecycle.Forbidden` when no way leads to that state.
        """
        body, key = self._fresh_body(spec, now)
        order = self._entered(body, key, now, spec.quirks)
        at = spec.created_date or now
        event: str | None = None
        for step in _steps(spec):
            event = self._apply(order, step, at)
        if spec.status_detail is not None:
            order.body["status_detail"] = spec.status_detail
        if spec.overrides:
            order.body = deep_merge(order.body, spec.overrides)
        self._keep(order)
        return order, event

    def plant(self, raw: Json, now: datetime) -> SimulatedOrder:
        """Keep a whole order verbatim. Raises `ValueError` when it has no id, or a taken one."""
        order_id = raw.get("id")
        if not isinstance(order_id, str) or not order_id:
            raise ValueError('raw needs an "id"')
        order = self._entered(copied(raw), f"raw#{order_id}", now, frozenset())
        self._keep(order)
        return order

    def change(self, order: SimulatedOrder, change: Change, now: datetime) -> str | None:
        """Let something happen to an order. Raises `lifecycle.Forbidden`, and then nothing has changed."""
        event = self._apply(order, change, now)
        self._keep(order)
        return event

    def patch(self, order: SimulatedOrder, merge: Json, now: datetime, touch: bool = True) -> None:
        """Lay `merge` over the body. `touch` dates the change, unless the patch brings its own date."""
        order.body = deep_merge(order.body, merge)
        order.version += 1
        if touch and "last_updated_date" not in merge:
            self._date(order, now)
        self._keep(order)

    def replace(self, order: SimulatedOrder, raw: Json) -> None:
        """Put another body in the order's place, verbatim."""
        order.body = copied(raw)
        order.version += 1
        self._keep(order)

    def created_between(self, begin: datetime, end: datetime) -> Iterator[SimulatedOrder]:
        """Orders by creation date, both ends included, oldest first."""
        low = bisect_left(self._by_creation, (begin, ""))
        high = bisect_right(self._by_creation, (end, "\x7f"))
        return (self.orders[order_id] for _, order_id in self._by_creation[low:high])

    def in_order(self) -> Iterator[SimulatedOrder]:
        """Every order, oldest first."""
        return (self.orders[order_id] for _, order_id in self._by_creation)

    def open_at(self, place: Place) -> list[SimulatedOrder]:
        """The unpaid orders that stand at a place, the one that came last at the end."""
        return list(self._places.get(place, {}).values())

    def shown_at(self, place: Place) -> SimulatedOrder | None:
        """The order that came there last, while it is open: one that was replaced is never shown again."""
        order = self._newest.get(place)
        return order if order is not None and order.place == place else None

    def places(self) -> dict[Place, list[SimulatedOrder]]:
        """All places where unpaid orders stand."""
        return {place: list(orders.values()) for place, orders in self._places.items() if orders}

    def neighbour_of(self, order_id: str) -> SimulatedOrder | None:
        """Another order than this one: the one created next, else before."""
        order = self.orders.get(order_id)
        if order is None or len(self._by_creation) < 2:
            return None
        place = bisect_left(self._by_creation, (order.created_at, order_id))
        other = place + 1 if place + 1 < len(self._by_creation) else place - 1
        return self.orders[self._by_creation[other][1]]

    def next_expiry(self) -> datetime | None:
        """When `expire_due` has something to do next."""
        return self._expiries[0][0] if self._expiries else None

    def expire_due(self, now: datetime) -> list[tuple[SimulatedOrder, str | None]]:
        """Let every order run out whose time has come; each is dated with the moment it was due."""
        done = []
        while self._expiries and self._expiries[0][0] <= now:
            due, order_id = heapq.heappop(self._expiries)
            order = self.orders.get(order_id)
            if order is None or order.expiry_due != due or order.status not in lifecycle.OPEN:
                continue
            done.append((order, self.change(order, lambda body, _: lifecycle.expire(body), due)))
        return done

    def _fresh_body(self, spec: OrderSpec, now: datetime) -> tuple[Json, str]:
        number = len(self.orders) + 1
        reference = spec.external_reference or f"SIM-{self.draws.seed}-{number:06d}"
        self._references[reference] += 1
        key = f"{reference}#{self._references[reference]}"
        body = new_order(spec, self.config, self.draws, key, spec.created_date or now)
        body["external_reference"] = reference
        return body, key

    def _entered(self, body: Json, key: str, now: datetime, quirks: frozenset[str]) -> SimulatedOrder:
        order_id = body["id"]
        if order_id in self.orders:
            raise ValueError(f"there is an order {order_id} already; patch it instead")
        seller = str(body.get("user_id"))
        owner = seller if seller in self.config.access_tokens.values() else None
        return SimulatedOrder(order_id, key, body, now, owner=owner, quirks=quirks)

    def _apply(self, order: SimulatedOrder, change: Change, at: datetime) -> str | None:
        body = copied(order.body)
        event = change(body, lifecycle.Chance(at, self.draws, order.key, order.version + 1))
        if body.get("status") in lifecycle.PAID and order.status not in lifecycle.PAID:
            order.paid_at = at
        order.body = body
        order.version += 1
        self._date(order, at)
        return event

    def _date(self, order: SimulatedOrder, at: datetime) -> None:
        step = date_step(order.quirks)
        order.body["last_updated_date"] = format_time(max(floor_to(at, step), floor_to(order.updated_at, step) + step))

    def _keep(self, order: SimulatedOrder) -> None:
        """Render the order once for all readers, and index it by what its body says now."""
        order.view = shown(order.body, order.quirks, self.draws, order.key, order.version)
        order.previous, order.rendered = order.rendered, dump_json(order.view)
        created_at = _date_of(order.body, "created_date")
        if order.order_id not in self.orders or created_at != order.created_at:
            if order.order_id in self.orders:
                del self._by_creation[bisect_left(self._by_creation, (order.created_at, order.order_id))]
            insort(self._by_creation, (created_at, order.order_id))
            order.created_at = created_at
        self.orders[order.order_id] = order
        self._schedule_expiry(order)
        self._place(order)

    def _place(self, order: SimulatedOrder) -> None:
        """Remember open orders by where they stand."""
        place = place_of(order.body) if order.status in lifecycle.OPEN else None
        if place == order.place:
            return
        if order.place is not None:
            self._places[order.place].pop(order.order_id, None)
        if place is not None:
            self._places.setdefault(place, {})[order.order_id] = order
            self._newest[place] = order
        order.place = place

    def _schedule_expiry(self, order: SimulatedOrder) -> None:
        ends = expires_at(order.body) if order.status in lifecycle.OPEN else None
        lag = timedelta(milliseconds=1 + self.draws.below(250, "expiry-lag", order.key))
        due = None if ends is None else ends + lag
        if due is not None and due != order.expiry_due:
            heapq.heappush(self._expiries, (due, order.order_id))
        order.expiry_due = due


def _date_of(body: Json, name: str) -> datetime:
    try:
        return parse_time(body[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return _NO_DATE


def _steps(spec: OrderSpec) -> list[Change]:
    """The way from `created` to the state a spec asks for."""
    detail = spec.status_detail

    def pay(body: Json, chance: lifecycle.Chance) -> str | None:
        return lifecycle.pay(
            body,
            chance,
            paid_amount=spec.paid_amount,
            tip_amount=spec.tip_amount,
            payment_method=spec.payment_method,
        )

    def give_back(amount: str | None) -> Change:
        def step(body: Json, chance: lifecycle.Chance) -> str | None:
            lifecycle.refund(body, chance, amount=amount)
            return lifecycle.event_of(body)

        return step

    simple: dict[str, list[Change]] = {
        "created": [],
        "at_terminal": [lambda body, _: lifecycle.terminal(body)],
        "processing": [lambda body, _: lifecycle.processing(body, status_detail=detail or spec.payment_detail)],
        "action_required": [lambda body, _: lifecycle.action_required(body, status_detail=detail)],
        "expired": [lambda body, _: lifecycle.expire(body, status="expired")],
        "canceled": [lambda body, _: lifecycle.cancel(body)],
        "failed": [lambda body, chance: lifecycle.fail(body, chance, status_detail=spec.payment_detail)],
        "processed": [pay],
        "charged_back": [pay, lambda body, chance: lifecycle.chargeback(body, chance, status=detail or "in_process")],
    }
    parts: list[Change] = [give_back(amount) for amount in spec.refunds]
    if spec.status == "refunded":
        return [pay, *(parts or [give_back(None)])]
    if spec.status == "partially_refunded":
        return [pay, *(parts or [_half_back])]
    way = simple[spec.status]
    if spec.type == "point" and spec.status in {"processed", "charged_back", "failed", "action_required"}:
        way = [*simple["at_terminal"], *way]
    return [*way, *parts]


def _half_back(body: Json, chance: lifecycle.Chance) -> str | None:
    payment = payments_of(body)[0]
    unit = CENT if "." in str(payment.get("amount")) else Decimal(1)
    half = (lifecycle.refundable(body, payment) / 2).quantize(unit, ROUND_DOWN)
    lifecycle.refund(body, chance, amount=str(half))
    return lifecycle.event_of(body)
