"""Whatever is repeated, lost or changed: one effect per key, and never more given back than was paid."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from service.simulator.server import SimulatorConfig, create_app
from tests.integration.simulator.simulator_expectations_legacy import SALE, V1

TOKEN = {"Authorization": "Bearer APP_USR-simulator"}
PAID = {"order": Decimal(100), "payment": Decimal(51)}
LOSSES: dict[str, dict[str, Any]] = {
    "none": {},
    "500 before": {"status": 500},
    "500 after": {"status": 500, "when": "after"},
    "gone before": {"body": "disconnect"},
    "gone after": {"body": "disconnect", "when": "after"},
    "cut after": {"body": "cut", "when": "after"},
}
Step = tuple[str, str, str | None, str, bool]
"""What is refunded, the key, the amount, how the answer is lost, and whether the panel refunds one unit before."""
STEPS = st.tuples(
    st.sampled_from(["order", "payment"]),
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from([None, "10.00", "25.50", "60.00"]),
    st.sampled_from(sorted(LOSSES)),
    st.booleans(),
)


class Story:
    """One simulator with a paid order and a paid legacy payment, and what is known of the keys used on it."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client
        self.spent: set[str] = set()
        self.ids: dict[str, str] = {}
        self.payment = ""

    async def control(self, path: str, body: Any = None) -> Any:
        async with self.client.request("GET" if body is None else "POST", f"/_sim/{path}", json=body) as response:
            return await response.json()

    async def begin(self) -> None:
        order = await self.control("orders", {"status": "processed", "total_amount": "100.00"})
        async with self.client.post(V1, json=SALE, headers=TOKEN) as response:
            assert response.status == 200
        told = await self.control("legacy/CAJA01/pay", {})
        self.ids = {"order": order["id"], "payment": str(told["payments"][0]["id"])}
        self.payment = order["transactions"]["payments"][0]["id"]

    async def refunds(self, what: str) -> list[Decimal]:
        """The refunds the provider really has."""
        if what == "payment":
            (legacy,) = (await self.control("legacy"))["data"]
            return [Decimal(str(one["amount"])) for one in legacy["payments"][0]["refunds"]]
        order = await self.control(f"orders/{self.ids['order']}")
        return [Decimal(one["amount"]) for one in order["transactions"].get("refunds", ())]

    async def ask(self, what: str, key: str, amount: str | None) -> int | None:
        """Ask for a refund; the status, or nothing when the answer is lost."""
        body: Any = {}
        if amount is not None:
            body = {"transactions": [{"id": self.payment, "amount": amount}]}
        path = f"/v1/orders/{self.ids['order']}/refund"
        if what == "payment":
            path = f"/v1/payments/{self.ids['payment']}/refunds"
            body = {} if amount is None else {"amount": float(amount)}
        try:
            async with self.client.post(path, json=body, headers=TOKEN | {"X-Idempotency-Key": key}) as response:
                await response.read()
                return response.status
        except aiohttp.ClientError:
            return None

    async def step(self, step: Step) -> None:
        what, key, amount, loss, panel = step
        if panel:
            where = f"orders/{self.ids['order']}" if what == "order" else "legacy/CAJA01"
            await self.control(f"{where}/refund", {"amount": "1.00"})
        fault = LOSSES[loss]
        operation = {"order": "refund", "payment": "payment_refund"}[what]
        await self.control("faults", {"replace": True, operation: fault})
        before = {name: await self.refunds(name) for name in PAID}
        status = await self.ask(what, key, amount)
        after = {name: await self.refunds(name) for name in PAID}
        grown = len(after[what]) - len(before[what])
        assert grown in {0, 1}
        assert sum(map(len, after.values())) - sum(map(len, before.values())) == grown
        assert not (grown and key in self.spent)
        assert not (grown and "before" in loss)
        if status == 201:
            assert grown or key in self.spent
        if grown:
            self.spent.add(key)
        for name, paid in PAID.items():
            assert sum(after[name]) <= paid


async def told(story_of: Callable[[Story], Awaitable[None]]) -> None:
    async with TestClient(TestServer(create_app(SimulatorConfig(speed=0)))) as client:
        story = Story(client)
        await story.begin()
        await story_of(story)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=12))
def test_one_effect_per_key_and_never_beyond_the_paid(steps: list[Step]) -> None:
    async def live(story: Story) -> None:
        for step in steps:
            await story.step(step)

    asyncio.run(told(live))


def test_a_repeat_after_any_loss_ends_in_exactly_one_effect() -> None:
    async def live(story: Story) -> None:
        for number, (loss, fault) in enumerate(sorted(LOSSES.items())):
            for what, operation in (("order", "refund"), ("payment", "payment_refund")):
                before = len(await story.refunds(what))
                await story.control("faults", {"replace": True, operation: fault | ({"count": 1} if fault else {})})
                await story.ask(what, f"{what}-{number}", "5.00")
                assert await story.ask(what, f"{what}-{number}", "5.00") == 201, loss
                assert len(await story.refunds(what)) == before + 1

    asyncio.run(told(live))
