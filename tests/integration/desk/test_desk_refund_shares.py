"""A refund takes its own share and no more: of what a chargeback left, of several payments, as the order shows it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.errors import AlreadySent, WrongState
from service.desk.intents import CommandRow
from tests.support.desk import Shop, shop
from tests.support.waiting import until

SECOND = "PAY01JSA8Q0000000000000000BB"


async def ask(here: Shop, order_id: str, amount: str | None, key: str, payment_id: str | None = None) -> CommandRow:
    return await here.desk.refund(order_id, payment_id=payment_id, amount=amount, key=key, asked_by="till-1")


async def with_two_payments(here: Shop) -> tuple[str, str]:
    """A paid order of two payments of 100.00; its id, and the first payment's."""
    order_id = await here.sell()
    (first,) = (await here.provider.ask(f"orders/{order_id}"))["transactions"]["payments"]
    payments = [first, first | {"id": SECOND, "reference_id": "999"}]
    await patch(here, order_id, {"total_amount": "200.00", "transactions": {"payments": payments}})
    await here.know(order_id)
    return order_id, first["id"]


async def patch(here: Shop, order_id: str, merge: dict[str, Any]) -> None:
    await here.provider.tell(f"orders/{order_id}/patch", {"merge": merge})


async def charge_back(here: Shop, order_id: str, payment_id: str, amount: str) -> None:
    taken = {"id": "CBK01JSA8Q0000000000000000AA", "transaction_id": payment_id, "amount": amount}
    await patch(here, order_id, {"transactions": {"chargebacks": [taken | {"status": "in_process"}]}})
    await here.know(order_id)


async def given_back(here: Shop, order_id: str) -> list[tuple[str, str, str]]:
    refunds = await here.provider.refunds(order_id)
    return sorted((one["transaction_id"], one["amount"], one["status"]) for one in refunds)


async def test_everything_is_no_more_than_a_chargeback_has_left(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        (payment,) = (await here.provider.ask(f"orders/{order_id}"))["transactions"]["payments"]
        await charge_back(here, order_id, payment["id"], "40.00")
        done = await here.settled(await ask(here, order_id, None, "k"))
        assert (done.status, done.amount) == ("done", Decimal("60.00"))
        assert await given_back(here, order_id) == [(payment["id"], "60.00", "processed")]


async def test_everything_leaves_out_a_payment_that_is_charged_back(database: Database) -> None:
    async with shop(database) as here:
        order_id, first = await with_two_payments(here)
        await charge_back(here, order_id, SECOND, "100.00")
        done = await here.settled(await ask(here, order_id, None, "k"))
        assert (done.status, dict(done.reserved)) == ("done", {first: Decimal("100.00")})
        assert await given_back(here, order_id) == [(first, "100.00", "processed")]


async def test_everything_of_a_sale_that_nothing_else_takes_of_is_said_as_that(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.settled(await ask(here, order_id, "30.00", "a"))
        await here.know(order_id)
        rest = await here.settled(await ask(here, order_id, None, "b"))
        assert (rest.status, rest.amount, rest.options) == ("done", Decimal("70.00"), {"everything": True})
        # A Point payment with a tip can be refunded in no other way.
        assert await database.fetchval("select body from cuadre.commands where idempotency_key = 'b'") is None


async def steps(here: Shop) -> None:
    """Whatever is due, once, to its end."""
    await here.database.execute("update cuadre.commands set due_at = now() where due_at > now()")
    await here.runner._round()
    if here.runner._held:
        await asyncio.wait(here.runner._held)


@asynccontextmanager
async def two_under_way(database: Database) -> AsyncIterator[tuple[Shop, CommandRow, list[str]]]:
    """A refund of everything that two payments paid, accepted and still processing; its refunds' ids."""
    async with shop(database, runner=False) as here:
        order_id, _ = await with_two_payments(here)
        await here.provider.tell("rules", {"refund_processing_seconds": 3600})
        asked = await ask(here, order_id, None, "k")
        await steps(here)
        accepted = await here.becomes(asked, status="accepted")
        await here.know(order_id)
        yield here, accepted, [one["id"] for one in await here.provider.refunds(order_id)]


async def ends(here: Shop, command: CommandRow, refund_id: str, status: str) -> CommandRow:
    """That refund ends so, it is stored, and looked at; the command after it."""
    assert command.order_id is not None
    await here.provider.tell(f"orders/{command.order_id}/refund", {"refund_id": refund_id, "status": status})
    await here.know(command.order_id)
    await steps(here)
    found = await here.desk.find(command.command_id)
    assert found is not None
    return found


async def test_a_refund_of_two_payments_is_done_when_both_are_given_back(database: Database) -> None:
    async with two_under_way(database) as (here, asked, (first, second)):
        assert (await ends(here, asked, first, "processed")).status == "accepted"
        assert (await ends(here, asked, second, "processed")).status == "done"


@pytest.mark.parametrize("first_ends", ["processed", "failed"])
async def test_half_a_refund_is_told_as_half_and_not_before_the_other_half_has_ended(
    database: Database, first_ends: str
) -> None:
    async with two_under_way(database) as (here, asked, (first, second)):
        other = {"processed": "failed", "failed": "processed"}[first_ends]
        assert (await ends(here, asked, first, first_ends)).status == "accepted"
        refused = await ends(here, asked, second, other)
        assert (refused.status, refused.provider_code) == ("refused", "refund_failed")
        (made,) = [one for one in await given_back(here, asked.order_id or "") if one[2] == "processed"]
        assert refused.message == (
            f"Mercado Pago gave back 100.00 {refused.currency} of payment {made[0]}, and could not carry out the rest: "
            "ask for the rest alone again."
        )
        # What failed is free again, and what was given back is not.
        rest = await ask(here, asked.order_id or "", None, "k-2")
        assert [dict(rest.reserved)[one] for one in rest.reserved] == [Decimal("100.00")]
        assert made[0] not in rest.reserved


async def test_a_refund_that_wholly_fails_is_told_as_none(database: Database) -> None:
    async with two_under_way(database) as (here, asked, (first, second)):
        await ends(here, asked, first, "failed")
        refused = await ends(here, asked, second, "failed")
        assert refused.message == "Mercado Pago took the refund and could not carry it out: ask for it again."


async def test_a_refund_of_two_payments_of_which_one_shows_is_left_to_a_person(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id, first = await with_two_payments(here)
        lost = {"body": "disconnect", "count": 1, "when": "before"}
        gateway = {"status": 400, "code": "bad_request", "count": 1, "when": "before"}
        await here.provider.faults(refund=[lost, gateway])
        asked = await ask(here, order_id, None, "k")
        await steps(here)
        await steps(here)
        await here.provider.tell(f"orders/{order_id}/refund", {"payment_id": first, "amount": "100.00"})
        await here.know(order_id)

        async def told() -> CommandRow | None:
            await steps(here)
            found = await here.desk.find(asked.command_id)
            assert found is not None
            return found if found.is_settled or "A part of it" in (found.message or "") else None

        unknown = await until(told, what="it was compared")
        assert unknown is not None
        (made,) = await here.provider.refunds(order_id)
        assert (unknown.status, unknown.refund_ids) == ("unknown", ())
        assert made["id"] in (unknown.message or "")


async def test_an_accepted_refund_that_never_shows_is_settled_by_hand_after_an_hour(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        asked = await ask(here, order_id, "30.00", "k")
        accepted = (
            "update cuadre.commands set status = 'accepted', accepted_at = now() - $1::text::interval, "
            "maybe_sent_at = now() - $1::text::interval, attempted_at = now() - $1::text::interval, "
            "refund_ids = '{REFGONE}', due_at = now() + interval '1 hour'"
        )
        await database.execute(accepted, "59 minutes")
        with pytest.raises(WrongState, match="less than an hour ago"):
            await here.desk.settle_by_hand(asked.command_id, status="refused", note="not made", asked_by="ana")
        await database.execute(accepted, "61 minutes")
        with pytest.raises(AlreadySent):
            await here.desk.withdraw(asked.command_id, asked_by="ana")
        with pytest.raises(WrongState, match="shows no refund"):
            await here.desk.settle_by_hand(asked.command_id, status="done", note="made", asked_by="ana")
        refused = await here.desk.settle_by_hand(asked.command_id, status="refused", note="not made", asked_by="ana")
        assert (refused.status, refused.message) == ("refused", "not made (ana)")
        # Its share of the payment is free again.
        assert (await ask(here, order_id, None, "k-2")).amount == Decimal("100.00")
