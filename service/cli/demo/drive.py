"""Carries a plan out at the simulator, and keeps what must be found of it."""

import asyncio
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from service.cli.demo.compare import Key
from service.cli.demo.plan import PAYMENT, Announce, Do, Json, Pause, PlannedOrder, RunOut, Scene, Seen, Step
from service.cli.demo.provider import Provider
from service.cli.demo.stored import Books
from service.cli.failures import CommandError

SCENES_PER_SECOND = 40.0
LIFETIME = timedelta(minutes=15)
POLL_SECONDS = 0.1
SEEN_SECONDS = 60.0
RUN_OUT_SECONDS = 30.0
OPEN = frozenset({"created", "at_terminal", "processing", "action_required"})


class Sightings:
    """Waits until orders are stored as they are now, for all scenes with one query."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._awaited: dict[str, tuple[str, asyncio.Future[None]]] = {}

    async def wait(self, body: Json) -> None:
        """Returns once this very state is stored. Raises `CommandError` after a minute."""
        seen = asyncio.get_running_loop().create_future()
        self._awaited[body["id"]] = (body["last_updated_date"], seen)
        try:
            async with asyncio.timeout(SEEN_SECONDS):
                await seen
        except TimeoutError:
            raise CommandError(f"order {body['id']} was announced and not stored within {SEEN_SECONDS:.0f} s") from None
        finally:
            del self._awaited[body["id"]]

    async def look_for_ever(self) -> None:
        """Run beside the scenes."""
        while True:
            if self._awaited:
                for order_id, at in (await self._books.times(self._awaited)).items():
                    wanted, seen = self._awaited.get(order_id, ("", None))
                    if at == wanted and seen is not None and not seen.done():
                        seen.set_result(None)
            await asyncio.sleep(POLL_SECONDS)


@dataclass
class Driver:
    """Drives scenes. `sent` counts orders whose life is over; `planted` and `to_resolve` are what must be found."""

    provider: Provider
    sightings: Sightings
    planted: set[Key] = field(default_factory=set)
    to_resolve: set[Key] = field(default_factory=set)
    created: int = 0
    sent: int = 0

    async def run(self, scenes: Iterable[Scene], *, per_second: float = SCENES_PER_SECOND) -> None:
        """All scenes, begun one after the other at a steady pace and then side by side."""
        started = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for place, scene in enumerate(scenes):
                    await asyncio.sleep(max(0.0, started + place / per_second - time.monotonic()))
                    group.create_task(self.play(scene))
        except BaseExceptionGroup as failures:
            # One line for the reader: what went wrong first.
            raise failures.exceptions[0] from None

    async def play(self, scene: Scene) -> None:
        """The orders of one scene, one after the other."""
        earlier: str | None = None
        for planned in scene:
            earlier = await self._live(planned, earlier)
            self.sent += 1

    async def _live(self, planned: PlannedOrder, earlier: str | None) -> str:
        body = await self.provider.create(_creation(planned))
        self.created += 1
        order_id = str(body["id"])
        first_refund: str | None = None
        for step in planned.steps:
            body = await self._take(step, body)
            refunds = body["transactions"].get("refunds")
            if first_refund is None and refunds:
                first_refund = refunds[0]["id"]
        subjects = {
            "order": order_id,
            "payment": body["transactions"]["payments"][0]["id"],
            "refund": first_refund,
            "earlier": earlier,
        }
        if planned.plant is not None:
            self.planted |= _keys(order_id, planned.plant.open_rules, subjects)
            self.to_resolve |= _keys(order_id, planned.plant.resolved_rules, subjects)
        return order_id

    async def _take(self, step: Step, body: Json) -> Json:
        order_id = body["id"]
        match step:
            case Do(change, given, announce):
                payment_id = body["transactions"]["payments"][0]["id"]
                return await self.provider.change(
                    order_id, change, {**_filled(dict(given), payment_id), "notify": announce}
                )
            case Announce(action):
                await self.provider.announce(order_id, action)
            case Seen():
                await self.sightings.wait(body)
            case RunOut():
                return await self._run_out(order_id)
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return body

    async def _run_out(self, order_id: str) -> Json:
        """The provider ends the order by its own clock."""
        deadline = time.monotonic() + RUN_OUT_SECONDS
        while (body := await self.provider.order(order_id))["status"] in OPEN:
            if time.monotonic() > deadline:
                raise CommandError(f"the simulator did not let order {order_id} expire")
            await asyncio.sleep(0.5)
        return body


def _creation(planned: PlannedOrder) -> Json:
    body: Json = {**planned.create, "notify": planned.plant is None}
    if planned.runs_out_in_seconds is not None:
        at = datetime.now(UTC) - LIFETIME + timedelta(seconds=planned.runs_out_in_seconds)
        body["created_date"] = at.isoformat(timespec="milliseconds")
    return body


def _filled(value: Any, payment_id: str) -> Any:
    """`value` with the payment's id wherever the plan left a place for it."""
    if isinstance(value, dict):
        return {name: _filled(item, payment_id) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, payment_id) for item in value]
    return payment_id if value == PAYMENT else value


def _keys(order_id: str, rules: Collection[tuple[str, str]], subjects: dict[str, str | None]) -> set[Key]:
    keys = set()
    for rule, name in rules:
        subject = subjects[name]
        if subject is None:
            raise CommandError(f"order {order_id} has no {name}: the plan of the demo does not fit the simulator")
        keys.add((order_id, rule, subject))
    return keys
