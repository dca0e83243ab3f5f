"""A sale on the printed QR, by both generations, from the till to the refund."""

from decimal import Decimal
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.errors import InvalidRequest, WrongState
from tests.support.legacy import Till, till
from tests.support.waiting import until

both = pytest.mark.parametrize("generation", ["v1", "v2"])


async def paid(here: Till, **act: Any) -> str:
    """A sale that is put up, paid and stored; its order's id."""
    await here.put()
    told = await here.act("pay", **act)
    return str((await here.stored(told, status="processed"))["order_id"])


async def refund(here: Till, order_id: str, amount: str | None, key: str, payment_id: str | None = None) -> Any:
    return await here.shop.desk.refund(order_id, payment_id=payment_id, amount=amount, key=key, asked_by="till")


@both
async def test_a_sale_from_put_to_paid(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        command = await here.put(ttl_seconds=180)
        assert command.provider_status == {"v1": 200, "v2": 204}[generation]
        assert command.expires_at is not None
        assert command.maybe_sent_at is not None
        assert (command.expires_at - command.maybe_sent_at).total_seconds() == 180
        (truth,) = await here.truth()
        assert (truth["generation"], truth["state"], truth["total_amount"]) == (generation, "live", 51)
        scanned = await here.act("scan")
        order = await here.stored(scanned, status="created")
        assert (order["type"], order["external_reference"], order["currency"]) == ("legacy_qr", "venta-1", "ARS")
        assert (order["total_amount"], order["paid_amount"]) == (Decimal(51), Decimal(0))
        assert abs((order["expires_at"] - command.expires_at).total_seconds()) < 1
        # A rejected attempt is normal: the sale stays open.
        await here.act("reject")
        told = await here.act("pay")
        order = await here.stored(told, status="processed")
        first, second = await here.rows("payments", order["order_id"])
        assert (first["status"], second["status"]) == ("failed", "processed")
        assert (second["amount"], second["paid_amount"]) == (Decimal(51), Decimal(51))
        assert second["payment_id"] == str(told["payments"][1]["id"])
        assert await here.open_rules() == set()


@both
async def test_amounts_are_exact(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        items = [
            {"title": "A", "currency_id": "ARS", "unit_price": Decimal("0.10"), "quantity": 3},
            {"title": "B", "currency_id": "ARS", "unit_price": Decimal("1234567.89"), "quantity": 1},
        ]
        command = await here.put(items=items)
        assert command.amount == Decimal("1234568.19")
        told = await here.act("pay")
        order = await here.stored(told, status="processed")
        assert (order["total_amount"], order["paid_amount"]) == (Decimal("1234568.19"), Decimal("1234568.19"))
        done = await here.shop.settled(await refund(here, order["order_id"], "0.19", "r-1"))
        assert (done.status, done.amount) == ("done", Decimal("0.19"))
        (made,) = await here.rows("refunds", order["order_id"])
        assert (made["amount"], made["status"]) == (Decimal("0.19"), "processed")
        assert await here.open_rules() == set()


@both
async def test_refunds_in_part_in_the_panel_and_in_full(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        order_id = await paid(here)
        some = await here.shop.settled(await refund(here, order_id, "11.10", "r-1"))
        assert (some.status, len(some.refund_ids)) == ("done", 1)
        order = await here.reread(order_id)
        assert (order["status"], order["status_detail"], order["refunded_amount"]) == (
            "processed",
            "partially_refunded",
            Decimal("11.10"),
        )
        # Somebody gives money back in the provider's panel: seen, and not counted twice.
        await here.act("refund", amount=20)
        order = await here.reread(order_id)
        assert order["refunded_amount"] == Decimal("31.10")
        with pytest.raises(WrongState) as refused:
            await refund(here, order_id, "20.00", "r-2")
        assert refused.value.code == "exceeds_left"
        rest = await here.shop.settled(await refund(here, order_id, None, "r-3"))
        assert (rest.status, rest.amount) == ("done", Decimal("19.90"))
        order = await here.reread(order_id)
        assert (order["status"], order["refunded_amount"]) == ("refunded", Decimal(51))
        assert [row["amount"] for row in await here.rows("refunds", order_id)] == [
            Decimal("11.1"),
            Decimal(20),
            Decimal("19.9"),
        ]
        assert await here.open_rules() == set()
        # What was done and settled gets the same answer for ever, and makes no further refund.
        assert (await refund(here, order_id, "11.10", "r-1")).command_id == some.command_id


async def test_a_refund_whose_answer_is_lost_is_made_once(database: Database) -> None:
    async with till(database) as here:
        order_id = await paid(here)
        lost = {"body": "disconnect", "count": 1, "when": "after"}
        await here.shop.provider.faults(payment_refund=lost)
        done = await here.shop.settled(await refund(here, order_id, "11.10", "r-1"))
        assert done.status == "done"
        (made,) = await here.rows("refunds", order_id)
        assert (made["refund_id"], made["amount"]) == (done.refund_ids[0], Decimal("11.10"))
        calls = await here.shop.provider.calls()
        assert sum(count for (name, _), count in calls.items() if name == "payment_refund") == 2


async def test_several_payments_are_refunded_one_by_one(database: Database) -> None:
    async with till(database) as here:
        await here.put()
        await here.act("pay", amount=31)
        told = await here.act("pay", amount=20)
        order_id = (await here.stored(told, status="processed"))["order_id"]
        first, second = [str(payment["id"]) for payment in told["payments"]]
        with pytest.raises(InvalidRequest) as refused:
            await refund(here, order_id, None, "r-1")
        assert first in refused.value.message
        assert second in refused.value.message
        done = await here.shop.settled(await refund(here, order_id, "20.00", "r-2", second))
        assert (done.status, done.payment_id) == ("done", second)
        done = await here.shop.settled(await refund(here, order_id, None, "r-3", first))
        assert (done.status, done.amount) == ("done", Decimal(31))
        assert (await here.reread(order_id))["status"] == "refunded"
        assert await here.open_rules() == set()


async def test_a_sale_is_not_canceled_but_taken_off(database: Database) -> None:
    async with till(database) as here:
        await here.put()
        told = await here.act("scan")
        order = await here.stored(told, status="created")
        with pytest.raises(WrongState) as refused:
            await here.shop.desk.cancel(order["order_id"], key="c-1", asked_by="till")
        assert refused.value.code == "legacy_order"
        assert "point of sale" in refused.value.message


@both
async def test_delete_takes_the_sale_off_and_the_watch_goes_on(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        command = await here.put()
        await here.act("scan", notify=False)
        deleted = await here.shop.settled(await here.ask_delete())
        assert (deleted.status, deleted.provider_status) == ("done", 204)
        assert await here.shows() is None
        # The buyer had the pay screen open, and nobody is told.
        told = await here.act("pay", notify=False)

        async def watched() -> bool:
            await here.shop.hurry()
            await here.watches.look()
            found = await here.shop.desk.find(command.command_id)
            return found is not None and found.order_id == f"MO{told['merchant_order']['id']}"

        await until(watched, what="the watch finds the sale")
        await here.stored(told, status="processed")


@both
async def test_there_is_nothing_to_delete(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        deleted = await here.shop.settled(await here.ask_delete())
        assert deleted.status == "done"
        assert deleted.provider_status == {"v1": 204, "v2": 400}[generation]


async def test_a_body_that_the_provider_refuses(database: Database) -> None:
    async with till(database, known_pos=("OTRA",)) as here:
        command = await here.shop.settled(await here.ask())
        assert (command.status, command.provider_code) == ("refused", "pos_obtainment_by_external_id_error")
        assert command.message
        assert command.due_at is None


@both
async def test_the_time_runs_out_and_late_money_is_told_of(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        command = await here.put(ttl_seconds=1)
        told = await here.act("scan")
        order_id = (await here.stored(told))["order_id"]

        async def expired() -> bool:
            return bool((await here.reread(order_id))["status"] == "expired")

        await until(expired, what="its time is over")
        assert await here.open_rules() == set()
        told = await here.act("pay", notify=False)
        order = await here.reread(order_id)
        assert (order["status"], order["paid_amount"]) == ("processed", Decimal(51))
        assert await here.open_rules() == {"paid_after_close"}
        assert command.expires_at is not None
        assert order["expires_at"] == command.expires_at
        await here.shop.settled(await refund(here, order_id, None, "r-1"))
        assert (await here.reread(order_id))["status"] == "refunded"
        assert await here.open_rules() == set()
