"""Commands from the desk to the provider and back, on good days, and what the provider's own words make of them."""

import asyncio
from decimal import Decimal

import pytest

from service.database.pool import Database
from service.desk.errors import InvalidRequest, KeyReused, UnknownCommand, UnknownOrder, WrongState
from service.mercadopago.account import Account
from tests.support.desk import ACCOUNT, point, qr, shop
from tests.support.waiting import until


async def test_a_sale_from_create_to_refund(database: Database) -> None:
    async with shop(database) as here:
        created = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        assert (created.status, created.amount, created.asked_by) == ("waiting", Decimal("100.00"), "till-1")
        assert created.valid_until is not None
        assert (created.valid_until - created.asked_at).total_seconds() == 15 * 60
        created = await here.settled(created)
        assert (created.status, created.provider_status) == ("done", 201)
        order_id = created.order_id
        assert order_id is not None
        await here.know(order_id)
        await here.provider.tell(f"orders/{order_id}/pay", {})
        assert (await here.know(order_id))["status"] == "processed"
        some = await here.desk.refund(order_id, payment_id=None, amount="30.00", key="k-2", asked_by="till-1")
        rest = await here.desk.refund(order_id, payment_id=None, amount=None, key="k-3", asked_by="till-1")
        assert (some.amount, rest.amount) == (Decimal("30.00"), Decimal("70.00"))
        assert {(await here.settled(one)).status for one in (some, rest)} == {"done"}
        refunds = await here.provider.refunds(order_id)
        assert sorted(refund["amount"] for refund in refunds) == ["30.00", "70.00"]
        assert (await here.know(order_id))["status"] == "refunded"


async def test_a_created_order_is_stored_by_a_look_and_not_from_the_answer(database: Database) -> None:
    async with shop(database) as here:
        created = await here.settled(await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1"))

        async def stored() -> str | None:
            query = "select cause from cuadre.order_versions where order_id = $1"
            cause: str | None = await database.fetchval(query, created.order_id)
            return cause

        assert await until(stored, what="the order is stored") == "desk"
        assert (await here.provider.calls())["get_order", 200] == 1


async def test_canceling_is_done_when_a_look_shows_it(database: Database) -> None:
    async with shop(database) as here:
        created = await here.settled(await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1"))
        assert created.order_id is not None
        await here.know(created.order_id)
        canceled = await here.settled(await here.desk.cancel(created.order_id, key="k-2", asked_by="till-1"))
        assert canceled.status == "done"
        row = await database.fetchrow("select status from cuadre.orders where order_id = $1", created.order_id)
        assert row is not None
        assert row["status"] == "canceled"
        with pytest.raises(WrongState, match="nothing to cancel"):
            await here.desk.cancel(created.order_id, key="k-3", asked_by="till-1")
        # The same question gets the same answer, whatever has become of the order since.
        assert await here.desk.cancel(created.order_id, key="k-2", asked_by="till-1") == canceled


async def test_a_paid_order_is_not_canceled_and_nothing_leaves(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        with pytest.raises(WrongState, match="refund it instead") as refused:
            await here.desk.cancel(order_id, key="k-1", asked_by="till-1")
        assert refused.value.code == "order_paid"
        assert await database.fetchval("select count(*) from cuadre.commands") == 0


async def test_the_buyer_who_pays_before_the_cancellation_wins(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order = await here.provider.tell("orders", {"type": "point", "total_amount": "80.00"})
        await here.provider.tell(f"orders/{order['id']}/terminal", {})
        await here.know(order["id"])
        await here.provider.tell("rules", {"terminal_cancel_seconds": None})
        asked = await here.desk.cancel(order["id"], key="k-1", asked_by="till-1")
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        # The terminal is asked to let go, and the buyer is faster.
        await here.becomes(asked, status="accepted")
        await here.provider.tell(f"orders/{order['id']}/pay", {})
        refused = await here.settled(asked)
        assert (refused.status, refused.provider_code) == ("refused", "paid_first")
        assert refused.message is not None
        assert "refund" in refused.message


async def test_an_order_at_the_terminal_is_canceled_when_the_terminal_lets_go(database: Database) -> None:
    async with shop(database) as here:
        order = await here.provider.tell("orders", {"type": "point", "total_amount": "80.00"})
        await here.provider.tell(f"orders/{order['id']}/terminal", {})
        await here.know(order["id"])
        asked = await here.desk.cancel(order["id"], key="k-1", asked_by="till-1")
        await here.becomes(asked, status="accepted")
        await here.provider.tell("clock", {"advance_seconds": 5})
        assert (await here.settled(asked)).status == "done"


async def test_a_declined_card_leaves_an_order_and_its_reason(database: Database) -> None:
    body = {
        "type": "online",
        "total_amount": "50.00",
        "external_reference": "venta-9",
        "payer": {"email": "buyer@example.com", "first_name": "FUND"},
        "transactions": {
            "payments": [
                {
                    "amount": "50.00",
                    "payment_method": {"id": "visa", "type": "credit_card", "token": "s3cr3t-card-token"},
                }
            ]
        },
    }
    async with shop(database) as here:
        refused = await here.settled(await here.desk.create(ACCOUNT, body, key="k-1", asked_by="web"))
        assert (refused.status, refused.provider_status) == ("refused", 402)
        assert refused.order_id is not None
        assert refused.message
        row = await here.know(refused.order_id)
        assert (row["status"], row["account"]) == ("failed", "default")
        kept = await database.fetchrow("select body, answer::text as answer from cuadre.commands")
        assert kept is not None
        assert "s3cr3t-card-token" not in kept["body"] + kept["answer"]


async def test_a_busy_terminal_is_told_and_makes_no_order(database: Database) -> None:
    async with shop(database) as here:
        first = await here.settled(await here.desk.create(ACCOUNT, point("venta-1"), key="k-1", asked_by="till-1"))
        assert first.status == "done"
        second = await here.settled(await here.desk.create(ACCOUNT, point("venta-2"), key="k-2", asked_by="till-1"))
        assert (second.status, second.provider_status) == ("refused", 409)
        assert second.provider_code == "already_queued_order_on_terminal"
        assert second.message
        assert len(await here.provider.orders()) == 1


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("cancel", "processor_communication_error"),
        ("refund", "unprocessable_entity"),
        ("refund", "post_processing_operation_pending"),
        ("refund", "order_payment_not_yet_enabled_for_refund"),
    ],
)
async def test_not_yet_is_asked_again_under_the_same_key(database: Database, operation: str, code: str) -> None:
    async with shop(database) as here:
        if operation == "refund":
            order_id = await here.sell()
        else:
            order_id = (await here.provider.tell("orders", {"type": "qr", "total_amount": "10.00"}))["id"]
            await here.know(order_id)
        await here.provider.faults(not_yet={operation: {"code": code, "times": 3}})
        if operation == "refund":
            asked = await here.desk.refund(order_id, payment_id=None, amount="5.00", key="k", asked_by="till-1")
        else:
            asked = await here.desk.cancel(order_id, key="k", asked_by="till-1")
        done = await here.settled(asked)
        assert (done.status, done.attempts) == ("done", 4)
        calls = await here.provider.calls()
        assert sum(number for (name, _), number in calls.items() if name == operation) == 4


async def test_the_same_key_gives_the_same_command_and_another_request_is_refused(database: Database) -> None:
    async with shop(database) as here:
        # Members in another order are the same request.
        again = dict(reversed(qr().items()))
        rows = await asyncio.gather(
            *(here.desk.create(ACCOUNT, body, key="k-1", asked_by="till-1") for body in (qr(), again) * 5)
        )
        assert len({row.command_id for row in rows}) == 1
        done = await here.settled(rows[0])
        assert await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="somebody else") == done
        for other in (qr(amount="100.01"), qr(reference="venta-2")):
            with pytest.raises(KeyReused):
                await here.desk.create(ACCOUNT, other, key="k-1", asked_by="till-1")
        with pytest.raises(KeyReused):
            await here.desk.delete_legacy(ACCOUNT, "CAJA1", key="k-1", asked_by="till-1")
        assert len(await here.provider.orders()) == 1
        # Keys are an account's own.
        other_account = Account("other", user_id="7", access_token="APP_USR-other", rate_per_second=1000)
        assert (await here.desk.create(other_account, qr(), key="k-1", asked_by="till-1")).account == "other"


async def test_a_repeat_is_answered_even_where_it_would_not_be_taken_today(database: Database) -> None:
    async with shop(database) as here:
        body = qr(amount="100.50")
        done = await here.settled(await here.desk.create(ACCOUNT, body, key="k-1", asked_by="till-1"))
        chile = Account("default", user_id="2100457788", access_token="APP_USR-simulator", currency="CLP")
        assert await here.desk.create(chile, body, key="k-1", asked_by="till-1") == done
        with pytest.raises(InvalidRequest):
            await here.desk.create(chile, body, key="k-2", asked_by="till-1")


async def test_every_fault_is_told_at_once_and_nothing_is_written(database: Database) -> None:
    async with shop(database) as here:
        body = qr(reference="no blanks!", amount="10.001") | {"notification_url": "https://example.com"}
        with pytest.raises(InvalidRequest) as refused:
            await here.desk.create(ACCOUNT, body, key="k-1", asked_by="till-1")
        places = {fault.path for fault in refused.value.faults}
        assert {"order.external_reference", "order.total_amount"} <= places
        assert await database.fetchval("select count(*) from cuadre.commands") == 0
        for order_id in ("ORD01M2G3K2XF0W7YQHBTWEK4BXB9",):
            with pytest.raises(UnknownOrder):
                await here.desk.cancel(order_id, key="k-1", asked_by="till-1")
            with pytest.raises(UnknownOrder):
                await here.desk.refund(order_id, payment_id=None, amount=None, key="k-1", asked_by="till-1")
        with pytest.raises(UnknownCommand):
            await here.desk.withdraw("CMD0", asked_by="till-1")
        with pytest.raises(UnknownCommand):
            await here.desk.wait("CMD0", seconds=0)


async def test_waiting_for_a_command_ends_with_its_settlement_or_with_the_time(database: Database) -> None:
    async with shop(database, runner=False) as here:
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        assert (await here.desk.wait(asked.command_id, seconds=0)).status == "waiting"
        waiting = asyncio.create_task(here.desk.wait(asked.command_id, seconds=15))
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        assert (await waiting).status == "done"
