"""A refund takes its own share and no more: of what a chargeback left, of several payments, as the order shows it."""

from decimal import Decimal
from typing import Any

from service.database.pool import Database
from service.desk.intents import CommandRow
from tests.support.desk import Shop, shop

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
