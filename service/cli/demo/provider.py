"""The simulator's control API, as far as the demo needs it (service/simulator/__init__.py describes all of it)."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import aiohttp

from service.cli.demo.plan import Json
from service.cli.failures import CommandError

CALL_SECONDS = 30.0
CALLS_AT_ONCE = 12
_PAGE = 2000


@dataclass(frozen=True, slots=True)
class LedgerOrder:
    """An order in the provider's books: the body that a GET answers, and what became of its notifications.

    `version` is the last one that was announced, `delivered_version` the last one that got through.
    """

    order_id: str
    body: Json
    delivered: bool
    delivered_version: int
    version: int

    @property
    def last_word_lost(self) -> bool:
        """Something got through, but not the latest notification."""
        return self.delivered_version < self.version


class Provider:
    """The control side of one simulator. Amounts given as JSON numbers arrive as exact decimals."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_SECONDS))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def answers(self) -> bool:
        """Whether it takes calls yet."""
        try:
            async with self._session.get(f"{self.base_url}/_sim/clock") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def create(self, order: Mapping[str, Any]) -> Json:
        """A new order; its body."""
        return dict(await self._call("POST", "/_sim/orders", order))

    async def change(self, order_id: str, change: str, body: Mapping[str, Any]) -> Json:
        """`pay`, `refund`, `patch` and so on; the order's body afterwards."""
        return dict(await self._call("POST", f"/_sim/orders/{order_id}/{change}", body))

    async def announce(self, order_id: str, action: str) -> None:
        """A notification past all faults; returns when it was answered. Raises `CommandError` where not with 200."""
        told = await self._call("POST", "/_sim/notify", {"order_id": order_id, "action": action, "wait": True})
        if told["outcome"] != "delivered":
            how = told["status"] or told["outcome"]
            raise CommandError(f"a notification of {order_id} was answered {how}, not 200")

    async def order(self, order_id: str) -> Json:
        """One order as it is now."""
        return dict(await self._call("GET", f"/_sim/orders/{order_id}"))

    async def ledger(self) -> dict[str, LedgerOrder]:
        """All orders by id, the oldest first."""
        orders: dict[str, LedgerOrder] = {}
        while True:
            page = await self._call("GET", f"/_sim/orders?limit={_PAGE}&offset={len(orders)}")
            for body in page["data"]:
                told = page["deliveries"][body["id"]]
                orders[body["id"]] = LedgerOrder(
                    body["id"], body, told["delivered"], int(told["delivered_version"]), int(told["version"])
                )
            if not page["data"] or len(orders) >= page["paging"]["total"]:
                return orders

    async def configure(self, path: str, body: Mapping[str, Any]) -> None:
        """`faults` or `webhook`."""
        await self._call("POST", f"/_sim/{path}", body)

    async def is_idle(self) -> bool:
        """Whether no notification is under way."""
        return bool((await self._call("GET", "/_sim/idle?timeout_seconds=0", accept=(200, 504)))["idle"])

    async def notifications(self) -> list[Json]:
        """The log of deliveries, oldest first."""
        return list((await self._call("GET", "/_sim/notifications"))["data"])

    async def answers_given(self) -> Mapping[str, int]:
        """How many reads of orders were answered with which status."""
        counts = (await self._call("GET", "/_sim/requests?limit=0"))["counts"]
        return {status: int(count) for status, count in counts.get("get_order", {}).items()}

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, accept: tuple[int, ...] = (200, 201)
    ) -> Any:
        async with self._slots, self._session.request(method, self.base_url + path, json=body) as response:
            text = await response.text()
            if response.status not in accept:
                raise CommandError(f"the simulator answered {response.status} to {method} {path}: {text[:200]}")
        return json.loads(text, parse_float=Decimal)
