"""Carries the plan out at the simulator while everything around it falls over."""

import asyncio
from collections import Counter
from typing import Any, Final, cast

from service.cli.demo.drive import Driver, Sightings
from service.cli.demo.plan import Json, Scene, Step
from service.cli.demo.provider import Provider
from service.cli.demo.stored import Books
from service.cli.failures import CommandError
from service.database.pool import UNAVAILABLE
from tests.chaos.plan import EndRefund

SEEN_SECONDS: Final = 180.0
_MORE: Final = 2000


class ChaosProvider(Provider):
    """The control side; what is announced past all faults is sent again until it is answered."""

    async def announce(self, order_id: str, action: str) -> None:
        body = {"order_id": order_id, "action": action, "retry": True}
        await self._call("POST", "/_sim/notify", body, accept=(200, 202))

    async def log(self, name: str, known: int) -> tuple[list[Json], int]:
        """Entries of `notifications` or `requests` after the first `known`, and how many there are now."""
        total = int((await self._call("GET", f"/_sim/{name}?limit=0"))["total"])
        # More may come between the two calls.
        answer = await self._call("GET", f"/_sim/{name}?limit={total - known + _MORE}")
        newest = int(answer["total"])
        entries = cast("list[Json]", answer["data"])
        return entries[max(0, len(entries) - (newest - known)) :], newest

    async def faults_left(self) -> list[Json]:
        """The faults of reads in force, `count` saying what is left of each."""
        return cast("list[Json]", (await self._call("GET", "/_sim/faults")).get("get_order", []))


class Tally:
    """What the provider did, summed up while its logs still have it.

    `provider` is a connection of its own: behind the calls of all scenes the logs would be gone before they are read.
    """

    def __init__(self, provider: ChaosProvider) -> None:
        self._provider = provider
        self._reading = asyncio.Lock()
        self._known = {"notifications": 0, "requests": 0}
        self.acknowledged: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.deliveries: Counter[str] = Counter()
        self.missed_entries = 0

    async def follow_for_ever(self) -> None:
        """Run beside the scenes."""
        while True:
            await self.read()
            await asyncio.sleep(2.0)

    async def read(self) -> None:
        """Each entry is counted once, whoever asks."""
        async with self._reading:
            for name, count in (("notifications", self._count_delivery), ("requests", self._count_read)):
                entries, total = await self._provider.log(name, self._known[name])
                self.missed_entries += total - self._known[name] - len(entries)
                self._known[name] = total
                for entry in entries:
                    count(entry)

    def _count_delivery(self, entry: Json) -> None:
        outcome = entry["outcome"]
        self.deliveries[outcome] += 1
        if outcome == "delivered":
            self.acknowledged[entry["order_id"] or ""] += 1
        kinds = {
            "lost": outcome == "dropped",
            "duplicated": entry["duplicate"],
            "unsigned": entry["sign"] == "none",
            "missigned": entry["sign"] in {"wrong", "verbatim"},
        }
        self.faults.update(name for name, holds in kinds.items() if holds)

    def _count_read(self, entry: Json) -> None:
        fault: Any = entry["fault"]
        if fault is not None:
            # Those that hang are written down minutes later: they are counted when they are dealt out.
            self.faults[f"read: {fault}"] += fault != "hang"

    def dealt(self, before: list[Json], left: list[Json]) -> None:
        """Faults that were counted out since."""
        for one, now in zip(before, left, strict=False):
            if one.get("body") == "hang":
                self.faults["read: hang"] += one["count"] - now["count"]


class PatientSightings(Sightings):
    """Waits through outages of the database."""

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.patience_seconds = SEEN_SECONDS

    async def wait(self, body: Json) -> None:
        seen = asyncio.get_running_loop().create_future()
        self._awaited[body["id"]] = (body["last_updated_date"], seen)
        try:
            async with asyncio.timeout(self.patience_seconds):
                await seen
        except TimeoutError:
            raise CommandError(f"order {body['id']} was announced and not stored in time") from None
        finally:
            del self._awaited[body["id"]]

    async def look_for_ever(self) -> None:
        while True:
            try:
                await super().look_for_ever()
            except UNAVAILABLE:
                await asyncio.sleep(0.3)


class ChaosDriver(Driver):
    """Knows the steps of the tangled lives, too."""

    async def play(self, scene: Scene) -> None:
        try:
            await super().play(scene)
        except CommandError as error:
            raise CommandError(f"{scene[0].life}: {error}") from None

    async def _take(self, step: Step | EndRefund, body: Json) -> Json:
        if not isinstance(step, EndRefund):
            return await super()._take(step, body)
        running = [one["id"] for one in body["transactions"]["refunds"] if one["status"] == "processing"]
        return await self.provider.change(body["id"], "refund", {"refund_id": running[0], "status": step.status})


def count_orders(scenes: list[Scene]) -> int:
    """How many orders a plan has."""
    return sum(map(len, scenes))
