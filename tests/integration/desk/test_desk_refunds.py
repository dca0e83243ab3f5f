"""Refunds: reserved under the order's lock, made once, done when a look shows them; never beyond what was paid."""

import asyncio
from decimal import Decimal

import pytest

from service.database.pool import Database
from service.desk.errors import DeskError, InvalidRequest, WrongState
from service.desk.intents import CommandRow
from tests.support.desk import Shop, shop


async def ask(here: Shop, order_id: str, amount: str | None, key: str) -> CommandRow:
    return await here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till-1")


async def amounts(here: Shop, order_id: str) -> list[str]:
    return sorted(refund["amount"] for refund in await here.provider.refunds(order_id))


async def test_two_tills_refunding_the_same_payment_at_once_never_exceed_what_was_paid(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        asked = await asyncio.gather(
            *(ask(here, order_id, "30.00", f"till-{number}") for number in range(8)), return_exceptions=True
        )
        taken = [one for one in asked if isinstance(one, CommandRow)]
        refused = [one for one in asked if isinstance(one, WrongState)]
        assert (len(taken), len(refused)) == (3, 5)
        assert {one.code for one in refused} == {"exceeds_left"}
        assert all("100.00 paid" in one.message and "10.00 left" in one.message for one in refused)
        assert {(await here.settled(one)).status for one in taken} == {"done"}
        assert await amounts(here, order_id) == ["30.00"] * 3


async def test_equal_refunds_under_different_keys_are_two_and_a_repeat_of_one_is_not(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        keys = ["a", "b", "a", "b", "a"]
        rows = await asyncio.gather(*(ask(here, order_id, "20.00", key) for key in keys))
        assert len({row.command_id for row in rows}) == 2
        settled = [await here.settled(row) for row in rows]
        assert {row.status for row in settled} == {"done"}
        assert await amounts(here, order_id) == ["20.00", "20.00"]
        # Each has its own refund.
        assert len({row.refund_ids for row in settled}) == 2
        assert await here.desk.refund(order_id, payment_id=None, amount="20.00", key="a", asked_by="x") in settled
        assert await amounts(here, order_id) == ["20.00", "20.00"]


async def test_a_repeat_is_found_before_anything_is_reserved(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        done = await here.settled(await ask(here, order_id, None, "k"))
        # Nothing is left by now, and still the answer is the same.
        assert await ask(here, order_id, None, "k") == done
        with pytest.raises(WrongState) as refused:
            await ask(here, order_id, None, "k-2")
        assert refused.value.code == "nothing_left"


async def test_everything_that_is_left_leaves_out_what_is_on_its_way(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        some = await ask(here, order_id, "30.00", "a")
        rest = await ask(here, order_id, None, "b")
        assert rest.amount == Decimal("70.00")
        # The later one is carried out first: it must not take the other one's share.
        later = "update cuadre.commands set due_at = now() + interval '1 hour' where idempotency_key = 'a'"
        await database.execute(later)
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        await here.becomes(rest, status="done")
        assert await amounts(here, order_id) == ["70.00"]
        assert (await here.settled(some)).status == "done"
        assert await amounts(here, order_id) == ["30.00", "70.00"]


async def test_refunds_made_in_the_panel_are_counted_once(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        mine = await here.settled(await ask(here, order_id, "40.00", "a"))
        await here.provider.tell(f"orders/{order_id}/refund", {"amount": "40.00"})
        await here.know(order_id)
        with pytest.raises(WrongState, match=r"20\.00 left"):
            await ask(here, order_id, "20.01", "b")
        assert (await here.settled(await ask(here, order_id, "20.00", "c"))).status == "done"
        assert await amounts(here, order_id) == ["20.00", "40.00", "40.00"]
        assert (await here.desk.find(mine.command_id)) == mine


async def test_a_panel_refund_that_nobody_here_has_seen_makes_the_provider_refuse(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.provider.tell(f"orders/{order_id}/refund", {"amount": "80.00"})
        refused = await here.settled(await ask(here, order_id, "30.00", "a"))
        assert (refused.status, refused.provider_code) == ("refused", "refund_amount_exceeds")
        # The refusal made us look: now it is known what is left.
        await here.know(order_id)
        with pytest.raises(WrongState, match=r"20\.00 left"):
            await ask(here, order_id, "30.00", "b")
        assert (await here.settled(await ask(here, order_id, "20.00", "c"))).status == "done"


async def test_a_refund_in_processing_is_done_when_it_is_processed(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.provider.tell("rules", {"refund_processing_seconds": 3600})
        asked = await here.becomes(await ask(here, order_id, "30.00", "a"), status="accepted")
        assert len(asked.refund_ids) == 1

        async def looked_at() -> None:
            await here.hurry()
            await here.know(order_id)

        await looked_at()
        assert (await here.becomes(asked, status="accepted")).settled_at is None
        with pytest.raises(WrongState, match=r"30\.00 being refunded"):
            await ask(here, order_id, "70.01", "b")
        await here.provider.tell("clock", {"advance_seconds": 3700})
        assert (await here.settled(asked)).status == "done"


async def test_a_refund_that_fails_is_refused_and_its_share_is_free_again(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.provider.tell("rules", {"refund_processing_seconds": 60, "refund_ends": "failed"})
        asked = await here.becomes(await ask(here, order_id, "90.00", "a"), status="accepted")
        await here.provider.tell("clock", {"advance_seconds": 70})
        refused = await here.settled(asked)
        assert (refused.status, refused.provider_code) == ("refused", "refund_failed")
        assert refused.message
        await here.provider.tell("rules", {})
        assert (await here.settled(await ask(here, order_id, None, "b"))).status == "done"


async def test_an_answer_that_names_no_refund_is_completed_by_the_order(database: Database) -> None:
    async with shop(database, worker=False, runner=False) as here:
        here.tasks["sync"] = asyncio.create_task(here.worker.run())
        order_id = await here.sell()
        asked = [await ask(here, order_id, "20.00", key) for key in ("a", "b")]
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        for one in asked:
            await here.becomes(one, status="done")
        # As if the answers had told nothing.
        await database.execute(
            "update cuadre.commands set status = 'accepted', refund_ids = '{}', settled_at = null, due_at = now()"
        )
        settled = [await here.settled(one) for one in asked]
        assert {one.status for one in settled} == {"done"}
        refund_ids = {one.refund_ids for one in settled}
        assert refund_ids == {(refund["id"],) for refund in await here.provider.refunds(order_id)}


@pytest.mark.parametrize(
    ("payment_id", "amount", "kind", "told"),
    [
        (None, "0", InvalidRequest, "amount"),
        (None, "-5", InvalidRequest, "amount"),
        (None, "1.001", InvalidRequest, "amount"),
        ("PAY404", "5.00", InvalidRequest, "payment_id"),
        (None, "100.01", WrongState, "more than is left"),
    ],
)
async def test_a_refund_that_cannot_be_is_refused_before_anything_leaves(
    database: Database, payment_id: str | None, amount: str, kind: type[DeskError], told: str
) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        with pytest.raises(kind, match=told):
            await here.desk.refund(order_id, payment_id=payment_id, amount=amount, key="k", asked_by="till-1")
        assert await database.fetchval("select count(*) from cuadre.commands") == 0


async def test_an_unpaid_order_has_nothing_to_refund(database: Database) -> None:
    async with shop(database) as here:
        order_id = (await here.provider.tell("orders", {"type": "qr", "total_amount": "10.00"}))["id"]
        await here.know(order_id)
        with pytest.raises(WrongState) as refused:
            await ask(here, order_id, None, "k")
        assert refused.value.code == "nothing_paid"
