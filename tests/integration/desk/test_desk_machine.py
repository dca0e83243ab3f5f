"""The desk as a state machine against the simulator: random commands, lost answers, crashes, frozen runners, refunds in
the panel. At the provider each intent takes effect at most once, sums never exceed what was paid, and in the end
everything is known.

Nothing runs by itself: every round of a runner and of the sync worker is a step of the machine, so a failing sequence
can be shrunk and repeated.
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from service.database.pool import Database
from service.desk.errors import AlreadySent, InvalidRequest, WrongState
from service.desk.intents import CommandRow
from service.desk.runner import Runner
from service.desk.work import Tools
from tests.support.desk import ACCOUNT, Shop, qr, shop
from tests.support.waiting import until

TRUNCATE = """
truncate cuadre.commands, cuadre.sync, cuadre.orders, cuadre.payments, cuadre.refunds, cuadre.order_versions,
    cuadre.fetches, cuadre.events, cuadre.discrepancies, cuadre.chargebacks, cuadre.cash_outs
"""
AMOUNTS = st.sampled_from(["20.00", "30.00", "30.00", "50.00", "100.00"])
# What becomes of a command that was just asked for. Where nothing is said it is carried out.
FAULTS: dict[str, dict[str, Any]] = {
    "lost before": {"body": "disconnect", "when": "before"},
    "lost after": {"body": "disconnect", "when": "after"},
    "500 before": {"status": 500, "when": "before"},
    "503 after": {"status": 503, "when": "after", "body": "html"},
    "limited": {"status": 429, "retry_after": 0},
    "busy": {"status": 423},
    "not yet": {"status": 422, "code": "unprocessable_entity"},
    "forbidden": {"status": 403, "body": "html"},
}
FATES = st.sampled_from(["waits", "works", "dies after claim", "dies after call", "freezes", *FAULTS])
EXPIRE_LEASES = "update cuadre.commands set leased_until = now() - interval '1 second' where leased_until is not null"
OVERDRAWN = """
select o.order_id
from cuadre.orders as o
where o.paid_amount < (
    select coalesce(sum(r.amount), 0) from cuadre.refunds as r
    where r.order_id = o.order_id and r.status in ('processed', 'processing')
) + (
    select coalesce(sum(c.amount), 0) from cuadre.commands as c
    where c.order_id = o.order_id and c.kind = 'refund' and c.settled_at is null
      and not exists (
          select from cuadre.refunds as r where r.order_id = o.order_id and r.refund_id = any(c.refund_ids)
      )
)
"""
STILL_OPEN = "select count(*) from cuadre.commands where settled_at is null"
LOOKS_OWED = "select count(*) from cuadre.sync where fetched < requested"


class Freezing:
    """A client that stops before or after its writes, like a process that is frozen there, until it goes on."""

    def __init__(self, client: Any, *, before: bool) -> None:
        self.client = client
        self.before = before
        self.goes_on = asyncio.Event()
        self.stopped = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.client, name)
        if name not in {"create_order", "cancel_order", "refund_order"}:
            return call

        async def frozen(*arguments: Any, **named: Any) -> Any:
            if self.before:
                await self.stop()
            try:
                return await call(*arguments, **named)
            finally:
                if not self.before:
                    await self.stop()

        return frozen

    async def stop(self) -> None:
        self.stopped += 1
        await self.goes_on.wait()


@dataclass
class Frozen:
    runner: Runner
    client: Freezing


@dataclass
class Asked:
    """One intent, and how to ask for it again."""

    row: CommandRow
    again: Any


@dataclass
class Panel:
    """Refunds made in the provider's panel, by order."""

    refund_ids: dict[str, set[str]] = field(default_factory=dict)


class DeskMachine(RuleBasedStateMachine):
    """The model is small on purpose: which intents there are. The truth to compare with is the provider's ledger."""

    dsn = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.stack = contextlib.AsyncExitStack()
        self.asked: list[Asked] = []
        self.orders: list[str] = []
        self.panel = Panel()
        self.frozen: list[Frozen] = []
        self.here: Shop = self.do(self.open())

    def do(self, work: Any) -> Any:
        return self.loop.run(work)

    async def open(self) -> Shop:
        database = await Database.connect(self.dsn, max_size=6)
        self.stack.push_async_callback(database.close)
        await database.execute(TRUNCATE)
        return await self.stack.enter_async_context(shop(database, runner=False, worker=False))

    def teardown(self) -> None:
        try:
            self.do(self.end())
        finally:
            self.do(self.stack.aclose())
            self.loop.close()

    # Steps of what otherwise runs by itself -------------------------------------------------------------------------

    async def round_of(self, runner: Runner) -> None:
        await runner._round()
        if runner._held:
            await asyncio.wait(runner._held)

    async def looks(self) -> None:
        await self.here.database.execute("update cuadre.sync set due_at = now() where fetched < requested")
        worker = self.here.worker
        await worker._round()
        if worker._held:
            await asyncio.wait(worker._held)

    async def due_now(self) -> None:
        await self.here.database.execute("update cuadre.commands set due_at = now() where due_at is not null")

    def key(self) -> str:
        return f"key-{len(self.asked)}"

    def note(self, operation: str, fate: str, work: Any) -> None:
        """Asks, notes the intent if it was taken, and lets its fate happen."""
        try:
            row = self.do(work())
        except (WrongState, InvalidRequest):
            return
        self.asked.append(Asked(row, work))
        self.check_reservations(row)
        self.do(self.happens(operation, fate))

    def check_reservations(self, row: CommandRow) -> None:
        """What is given back, and what is reserved by a refund just taken, is covered by what was paid."""
        if row.kind == "refund":
            overdrawn = self.do(self.here.database.fetch(OVERDRAWN))
            assert row.order_id not in {one["order_id"] for one in overdrawn}

    async def happens(self, operation: str, fate: str) -> None:
        """To whatever is due by now, of which what was just asked is a part."""
        if fate == "waits":
            return
        if fate in {"dies after claim", "dies after call", "freezes"}:
            await self.freeze(before=fate == "dies after claim")
            if fate != "freezes" and self.frozen:
                await self.die(self.frozen.pop())
            return
        if fate in FAULTS:
            await self.here.provider.tell("faults", {operation: FAULTS[fate] | {"count": 1}})
        await self.work()
        await self.here.provider.faults()

    # What tills do --------------------------------------------------------------------------------------------------

    @initialize()
    def sales_are_there(self) -> None:
        for number, status in enumerate(["processed", "processed", "created"]):
            self.orders.append(self.do(self.sold(f"initial-{number}", status)))

    async def sold(self, reference: str, status: str) -> str:
        body = {"type": "qr", "total_amount": "100.00", "external_reference": reference, "status": status}
        order_id: str = (await self.here.provider.tell("orders", body))["id"]
        await self.know(order_id)
        return order_id

    async def know(self, order_id: str) -> None:
        """As after a notification: marked due, and looked at."""
        await self.here.database.execute(
            "insert into cuadre.sync as s (order_id, account, trust, requested, due_at) "
            "values ($1, 'default', 1, 1, now()) on conflict (order_id) do update set requested = s.requested + 1, "
            "due_at = now()",
            order_id,
        )
        await self.looks()

    @rule(fate=FATES)
    def create(self, fate: str) -> None:
        key = self.key()
        # Each at a till of its own: where a newer sale stands on the QR, an older one is not made.
        body = qr(f"venta-{key}", config={"qr": {"external_pos_id": f"CAJA-{key}", "mode": "static"}})
        self.note("create", fate, lambda: self.here.desk.create(ACCOUNT, body, key=key, asked_by="till"))

    @rule(data=st.data(), amount=AMOUNTS, fate=FATES)
    def refund(self, data: st.DataObject, amount: str, fate: str) -> None:
        order_id, key = data.draw(st.sampled_from(self.orders)), self.key()
        self.note(
            "refund",
            fate,
            lambda: self.here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till"),
        )

    @rule(data=st.data(), fate=FATES)
    def refund_what_is_left(self, data: st.DataObject, fate: str) -> None:
        order_id, key = data.draw(st.sampled_from(self.orders)), self.key()
        self.note(
            "refund",
            fate,
            lambda: self.here.desk.refund(order_id, payment_id=None, amount=None, key=key, asked_by="till"),
        )

    @rule(data=st.data(), amount=AMOUNTS)
    def two_tills_refund_at_once(self, data: st.DataObject, amount: str) -> None:
        order_id = data.draw(st.sampled_from(self.orders))

        async def both() -> None:
            keys = [f"{self.key()}-{till}" for till in (1, 2)]

            def asks(key: str) -> Any:
                return lambda: self.here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till")

            rows = await asyncio.gather(*(asks(key)() for key in keys), return_exceptions=True)
            for key, row in zip(keys, rows, strict=True):
                if isinstance(row, CommandRow):
                    self.asked.append(Asked(row, asks(key)))
                else:
                    assert isinstance(row, WrongState), row

        before = len(self.asked)
        self.do(both())
        for one in self.asked[before:]:
            self.check_reservations(one.row)

    @rule(data=st.data(), fate=FATES)
    def cancel(self, data: st.DataObject, fate: str) -> None:
        order_id, key = data.draw(st.sampled_from(self.orders)), self.key()
        self.note("cancel", fate, lambda: self.here.desk.cancel(order_id, key=key, asked_by="till"))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.asked))
        assert self.do(one.again()).command_id == one.row.command_id

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.asked))
        with contextlib.suppress(AlreadySent, WrongState):
            assert self.do(self.here.desk.withdraw(one.row.command_id, asked_by="till-1")).maybe_sent_at is None

    # What happens at the provider -----------------------------------------------------------------------------------

    @rule(data=st.data())
    def buyer_pays(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(self.orders))

        async def pay() -> None:
            if (await self.here.provider.ask(f"orders/{order_id}"))["status"] == "created":
                await self.here.provider.tell(f"orders/{order_id}/pay", {})

        self.do(pay())

    @rule(data=st.data(), amount=AMOUNTS, heard=st.booleans())
    def panel_refunds(self, data: st.DataObject, amount: str, heard: bool) -> None:
        order_id = data.draw(st.sampled_from(self.orders))

        async def refund() -> None:
            order = await self.here.provider.ask(f"orders/{order_id}")
            before = {one["id"] for one in order["transactions"].get("refunds", [])}
            given = sum(Decimal(one["amount"]) for one in order["transactions"].get("refunds", []))
            if order["status"] != "processed" or Decimal(amount) > Decimal("100.00") - given:
                return
            await self.here.provider.tell(f"orders/{order_id}/refund", {"amount": amount})
            made = {one["id"] for one in await self.here.provider.refunds(order_id)} - before
            self.panel.refund_ids.setdefault(order_id, set()).update(made)
            if heard:
                await self.know(order_id)

        self.do(refund())

    # What runs by itself --------------------------------------------------------------------------------------------

    @rule(leases_run_out=st.booleans(), looks=st.booleans())
    def time_passes(self, leases_run_out: bool, looks: bool) -> None:
        async def pass_by() -> None:
            if leases_run_out:
                await self.here.database.execute(EXPIRE_LEASES)
            await self.work()
            if looks:
                await self.looks()
                await self.learn_orders()

        self.do(pass_by())

    async def work(self) -> None:
        await self.due_now()
        await self.round_of(self.here.runner)
        await self.learn_orders()

    async def learn_orders(self) -> None:
        rows = await self.here.database.fetch("select order_id from cuadre.orders order by external_reference")
        self.orders += [row["order_id"] for row in rows if row["order_id"] not in self.orders]

    async def freeze(self, *, before: bool) -> None:
        """Another runner claims what is due, and stops before or after its calls."""
        await self.due_now()
        client = Freezing(self.here.client, before=before)
        runner = self.here.another_runner()
        runner._tools = Tools(self.here.database, client)  # type: ignore[arg-type]  # a client, but slower
        await runner._round()
        if runner._held:

            async def all_stopped() -> bool:
                return client.stopped >= len(runner._held)

            await until(all_stopped, what="all of its calls are at the point where it freezes")
            self.frozen.append(Frozen(runner, client))

    @precondition(lambda self: self.frozen)
    @rule()
    def the_frozen_one_goes_on(self) -> None:
        self.do(self.thaw(self.frozen.pop(0)))

    async def thaw(self, one: Frozen) -> None:
        one.client.goes_on.set()
        if one.runner._held:
            await asyncio.wait(one.runner._held)

    @precondition(lambda self: self.frozen)
    @rule()
    def the_frozen_one_dies(self) -> None:
        self.do(self.die(self.frozen.pop(0)))

    async def die(self, one: Frozen) -> None:
        held = list(one.runner._held)
        for task in held:
            task.cancel()
        if held:
            await asyncio.wait(held)

    # The end --------------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        database = self.here.database
        await self.here.provider.faults()
        for one in self.frozen:
            await self.thaw(one)
        await database.execute("update cuadre.commands set leased_until = null, lease_token = null")
        for _ in range(60):
            await self.due_now()
            await self.round_of(self.here.runner)
            await self.looks()
            if await database.fetchval(STILL_OPEN) == 0 and await database.fetchval(LOOKS_OWED) == 0:
                break
        rows = {one.row.command_id: await self.here.desk.find(one.row.command_id) for one in self.asked}
        commands = [row for row in rows.values() if row is not None]
        assert len(commands) == len(self.asked)
        assert all(one.is_settled for one in commands), [(one.kind, one.status, one.message) for one in commands]
        ledger = await self.here.provider.orders()
        self.check_creations(commands, ledger)
        for order_id, order in ledger.items():
            self.check_refunds(order_id, order, [one for one in commands if one.order_id == order_id])
        self.check_cancellations(commands, ledger)

    def check_creations(self, commands: list[CommandRow], ledger: dict[str, Any]) -> None:
        made = Counter(order["external_reference"] for order in ledger.values())
        for command in commands:
            if command.kind == "create":
                assert made[command.external_reference] == (1 if command.status == "done" else 0), command
                if command.status == "done":
                    assert ledger[command.order_id or ""]["external_reference"] == command.external_reference

    def check_refunds(self, order_id: str, order: dict[str, Any], commands: list[CommandRow]) -> None:
        refunds = {one["id"]: Decimal(one["amount"]) for one in order["transactions"].get("refunds", [])}
        assert sum(refunds.values()) <= Decimal("100.00")
        done = [one for one in commands if one.kind == "refund" and one.status == "done"]
        owned = Counter(refund_id for one in done for refund_id in one.refund_ids)
        assert set(owned.values()) <= {1}, "two commands share a refund"
        assert owned.keys() <= refunds.keys(), "a refund that is done is not there"
        # What is nobody's was made in the panel: each intent took effect at most once, and a refused one never.
        assert refunds.keys() - owned.keys() <= self.panel.refund_ids.get(order_id, set())
        for one in done:
            given = sum(refunds[refund_id] for refund_id in one.refund_ids)
            assert one.refund_ids
            assert given == one.amount or one.options.get("everything"), one

    def check_cancellations(self, commands: list[CommandRow], ledger: dict[str, Any]) -> None:
        canceled = {one.order_id for one in commands if one.kind == "cancel" and one.status == "done"}
        for command in commands:
            if command.kind == "cancel":
                status = ledger[command.order_id or ""]["status"]
                assert (status == "canceled") == (command.order_id in canceled), command


def test_each_intent_takes_effect_at_most_once_and_is_known_in_the_end(database_dsn: str) -> None:
    machine = type("DeskMachineHere", (DeskMachine,), {"dsn": database_dsn})
    # A sequence is short enough to be read; making it shorter would take minutes of real calls.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=20, stateful_step_count=25, deadline=None, phases=phases)
    )
