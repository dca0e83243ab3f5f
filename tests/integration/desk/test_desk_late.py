"""Too late to repeat: what became of a command is found out by looking, or stays open for a person, visibly."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from service.database.pool import Database
from service.desk.errors import InvalidRequest, WrongState
from service.desk.intents import CommandRow
from tests.support.desk import ACCOUNT, Shop, point, qr, shop
from tests.support.waiting import until

DAY = timedelta(hours=25)
LOST_AFTER = {"body": "disconnect", "when": "after"}
LOST_BEFORE = {"body": "disconnect", "when": "before"}


async def set_clock(here: Shop, moment: datetime) -> None:
    await here.provider.tell("clock", {"set": moment.isoformat()})


async def a_day_later(here: Shop) -> None:
    """As if all that happened so far had been yesterday: the rows say so, and the provider has forgotten the keys."""
    await here.database.execute("update cuadre.orders set claimed_at = claimed_at - $1::interval", DAY)
    await here.database.execute("update cuadre.refunds set first_seen_at = first_seen_at - $1::interval", DAY)
    await here.database.execute(
        "update cuadre.commands set maybe_sent_at = maybe_sent_at - $1::interval, "
        "attempted_at = attempted_at - $1::interval, asked_at = asked_at - $1::interval",
        DAY,
    )
    await set_clock(here, datetime.now(UTC) + timedelta(seconds=1))


async def lost_creation(here: Shop, body: dict[str, object], *, key: str, fault: dict[str, str]) -> CommandRow:
    """Asked yesterday, its answer lost; the repeats that followed were lost, too."""
    await here.provider.faults(create=fault)
    asked = await here.desk.create(ACCOUNT, body, key=key, asked_by="till-1")
    return await here.becomes(asked, status="unknown")


@pytest.mark.parametrize("body", [qr(), point()], ids=["qr", "point"])
async def test_a_creation_lost_a_day_ago_is_found_by_its_reference(database: Database, body: dict[str, object]) -> None:
    async with shop(database) as here:
        await set_clock(here, datetime.now(UTC) - DAY)
        # Other sales that are not it: another amount, another reference, too old.
        await here.provider.tell("orders", {"type": "qr", "total_amount": "99.00", "external_reference": "venta-1"})
        await here.provider.tell("orders", {"type": "qr", "total_amount": "100.00", "external_reference": "venta-2"})
        asked = await lost_creation(here, body, key="k-1", fault=LOST_AFTER)
        await a_day_later(here)
        await here.provider.faults()
        sent = (await here.provider.calls())["create", 201]
        done = await here.settled(asked)
        assert done.status == "done"
        made = [one for one in (await here.provider.orders()).values() if one["id"] == done.order_id]
        assert [one["external_reference"] for one in made] == ["venta-1"]
        # Nothing was sent again: its key is forgotten, and it would have made another order.
        assert (await here.provider.calls())["create", 201] == sent
        assert done.order_id is not None
        assert (await here.know(done.order_id))["external_reference"] == "venta-1"


async def test_a_creation_that_is_not_listed_stays_unknown_until_a_person_settles_it(database: Database) -> None:
    async with shop(database) as here:
        asked = await lost_creation(here, qr(), key="k-1", fault=LOST_BEFORE)
        await a_day_later(here)
        await here.provider.faults()
        await here.hurry()
        searched = await until(lambda: looked_for(here, asked), what="it is searched for")
        assert searched is not None
        assert searched.status == "unknown"
        assert await here.provider.orders() == {}
        with pytest.raises(InvalidRequest, match="order_id"):
            await here.desk.settle_by_hand(asked.command_id, status="done", note="seen", asked_by="ana")
        with pytest.raises(InvalidRequest, match="note"):
            await here.desk.settle_by_hand(asked.command_id, status="refused", note=" ", asked_by="ana")
        refused = await here.desk.settle_by_hand(
            asked.command_id, status="refused", note="not in the panel", asked_by="ana"
        )
        assert (refused.status, refused.message) == ("refused", "not in the panel (ana)")
        with pytest.raises(WrongState):
            await here.desk.settle_by_hand(asked.command_id, status="refused", note="again", asked_by="ana")


async def looked_for(here: Shop, asked: CommandRow) -> CommandRow | None:
    row = await here.desk.find(asked.command_id)
    assert row is not None
    return row if row.message is not None and "lists no order" in row.message else None


async def test_several_orders_that_may_be_it_are_named_and_none_is_taken(database: Database) -> None:
    async with shop(database) as here:
        await set_clock(here, datetime.now(UTC) - DAY)
        asked = await lost_creation(here, qr(), key="k-1", fault=LOST_AFTER)
        twin = await here.provider.tell(
            "orders", {"type": "qr", "total_amount": "100.00", "external_reference": "venta-1"}
        )
        await a_day_later(here)
        await here.provider.faults()

        async def named() -> CommandRow | None:
            await here.hurry()
            row = await here.desk.find(asked.command_id)
            assert row is not None
            return row if row.message is not None and twin["id"] in row.message else None

        row = await until(named, what="both orders are named")
        assert row is not None
        assert row.status == "unknown"
        done = await here.desk.settle_by_hand(
            asked.command_id, status="done", note="the first", asked_by="ana", order_id=twin["id"]
        )
        assert (done.status, done.order_id) == ("done", twin["id"])
        await here.know(twin["id"])


async def test_an_order_belongs_to_one_creation(database: Database) -> None:
    async with shop(database) as here:
        await set_clock(here, datetime.now(UTC) - DAY)
        first = await lost_creation(here, qr(), key="k-1", fault=LOST_AFTER)
        await here.provider.faults(create=LOST_BEFORE)
        second = await here.becomes(
            await here.desk.create(ACCOUNT, qr(), key="k-2", asked_by="till-2"), status="unknown"
        )
        await a_day_later(here)
        await here.provider.faults()

        async def one_is_done() -> set[str]:
            await here.hurry()
            rows = [await here.desk.find(one.command_id) for one in (first, second)]
            return {row.status for row in rows if row is not None} if any(r and r.is_settled for r in rows) else set()

        assert await until(one_is_done, what="one of them takes the order") == {"done", "unknown"}


@pytest.mark.parametrize("fault", [LOST_AFTER, LOST_BEFORE], ids=["made", "not made"])
@pytest.mark.parametrize("amount", ["30.00", None], ids=["a part", "everything"])
async def test_a_refund_lost_a_day_ago_is_settled_by_what_the_order_shows(
    database: Database, fault: dict[str, str], amount: str | None
) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.provider.faults(refund=fault)
        asked = await here.desk.refund(order_id, payment_id=None, amount=amount, key="k-1", asked_by="till-1")
        await here.becomes(asked, status="unknown")
        await a_day_later(here)
        # A refund in the panel that is not it.
        if amount is not None:
            await here.provider.tell(f"orders/{order_id}/refund", {"amount": "10.00"})
        await here.provider.faults()
        settled = await here.settled(asked)
        refunds = {one["id"]: one["amount"] for one in await here.provider.refunds(order_id)}
        if fault is LOST_AFTER:
            assert settled.status == "done"
            assert [refunds[one] for one in settled.refund_ids] == [amount or "100.00"]
        else:
            assert (settled.status, settled.provider_code) == ("refused", "not_found_after_24h")
            # What it had reserved is free again.
            rest = await here.desk.refund(order_id, payment_id=None, amount=None, key="k-2", asked_by="till-1")
            assert (await here.settled(rest)).status == "done"
        assert sum(float(one["amount"]) for one in await here.provider.refunds(order_id)) <= 100


async def test_a_refund_is_not_given_up_by_a_look_from_before(database: Database) -> None:
    async with shop(database, worker=False) as here:
        here.tasks["sync"] = asyncio.create_task(here.worker.run())
        order_id = await here.sell()
        await here.worker.stop(within_seconds=5)
        await here.provider.faults(refund=LOST_AFTER)
        asked = await here.desk.refund(order_id, payment_id=None, amount="30.00", key="k-1", asked_by="till-1")
        await here.becomes(asked, status="unknown")
        await a_day_later(here)
        # What is stored is as old as the attempt.
        await database.execute("update cuadre.orders set claimed_at = claimed_at - $1::interval", DAY)
        await here.provider.faults()
        attempts = (await here.becomes(asked, status="unknown")).attempts

        async def looked_into() -> bool:
            await here.hurry()
            row = await here.desk.find(asked.command_id)
            assert row is not None
            return row.attempts > attempts + 2

        await until(looked_into, what="it is looked into")
        assert (await here.becomes(asked, status="unknown")).settled_at is None
        assert await database.fetchval("select requested > fetched from cuadre.sync where order_id = $1", order_id)


@pytest.mark.parametrize(
    ("fault", "paid", "status", "code"),
    [
        (LOST_AFTER, False, "done", None),
        (LOST_BEFORE, False, "refused", "not_found_after_24h"),
        (LOST_BEFORE, True, "refused", "paid_first"),
    ],
)
async def test_a_cancellation_lost_a_day_ago_is_settled_by_the_orders_status(
    database: Database, fault: dict[str, str], paid: bool, status: str, code: str | None
) -> None:
    async with shop(database) as here:
        order = await here.provider.tell(
            "orders", {"type": "qr", "total_amount": "10.00", "expiration_time": "PT3000H"}
        )
        await here.know(order["id"])
        await here.provider.faults(cancel=fault)
        asked = await here.desk.cancel(order["id"], key="k-1", asked_by="till-1")
        await here.becomes(asked, status="unknown")
        if paid:
            await here.provider.tell(f"orders/{order['id']}/pay", {})
            # No look from before is under way when the clocks are moved.
            await here.know(order["id"])
        await a_day_later(here)
        await here.provider.faults()
        settled = await here.settled(asked)
        assert (settled.status, settled.provider_code) == (status, code)


async def test_an_outcome_unknown_for_long_is_a_discrepancy_until_it_is_known(database: Database) -> None:
    async with shop(database, runner=False) as here:
        await here.provider.faults(create=LOST_AFTER | {"count": 1})
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        await here.runner._round()
        await asyncio.wait(here.runner._held)
        rows = "select order_id, subject_id, resolved_at from cuadre.discrepancies where rule = 'unknown_outcome'"
        assert await database.fetch(rows) == []
        await database.execute("update cuadre.commands set maybe_sent_at = now() - interval '16 minutes'")
        # Opened by time alone: nothing can be sent now.
        gate = here.worker.gates.gate("default")
        assert gate is not None
        here.runner._next_unknown = 0
        await here.runner._round()
        (found,) = await database.fetch(rows)
        assert tuple(found.values()) == (asked.command_id, asked.command_id, None)
        events = "select count(*) from cuadre.events where type = $1"
        assert await database.fetchval(events, "discrepancy.opened") == 1
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        assert (await here.settled(asked)).status == "done"
        (found,) = await database.fetch(rows)
        assert found["resolved_at"] is not None
        assert await database.fetchval(events, "discrepancy.resolved") == 1
