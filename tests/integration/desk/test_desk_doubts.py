"""What must not be taken for a command's own doing, and what must not be forgotten of it."""

import asyncio
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.errors import WrongState
from service.desk.intents import QUERIES, CommandRow
from service.desk.outcomes import MadeRefund, Outcome, Verdict
from service.desk.search import made_refunds
from service.desk.settle import commit_outcome
from service.desk.work import Work, work_of
from tests.support.desk import ACCOUNT, Shop, qr, shop
from tests.support.waiting import until

LOST_BEFORE = {"body": "disconnect", "count": 1, "when": "before"}
GATEWAY = {"status": 400, "code": "bad_request", "count": 1, "when": "before"}


async def refund(here: Shop, order_id: str, amount: str | None, key: str) -> CommandRow:
    return await here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till-1")


async def steps(here: Shop) -> None:
    """Whatever is due, once, to its end."""
    await here.database.execute("update cuadre.commands set due_at = now() where due_at > now()")
    await here.runner._round()
    if here.runner._held:
        await asyncio.wait(here.runner._held)


async def claimed(here: Shop, command: CommandRow) -> Work:
    await here.database.execute("update cuadre.commands set due_at = now() where command_id = $1", command.command_id)
    (row,) = await here.database.fetch(QUERIES.claim_due_commands, [ACCOUNT.name], [1], 1, 60.0, 72_000.0)
    assert row["command_id"] == command.command_id
    return work_of(row)


async def found(here: Shop, command: CommandRow) -> CommandRow:
    row = await here.desk.find(command.command_id)
    assert row is not None
    return row


async def lost_creation(here: Shop) -> CommandRow:
    """It never arrives, and its sale is over: it is looked for."""
    await here.provider.faults(create=LOST_BEFORE)
    asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
    await steps(here)
    await here.provider.faults()
    await here.database.execute("update cuadre.commands set valid_until = now(), due_at = now() + interval '1 hour'")
    return await here.becomes(asked, status="unknown")


def at_another_till() -> dict[str, Any]:
    return qr(config={"qr": {"external_pos_id": "CAJA2", "mode": "static"}})


async def test_a_search_that_found_anothers_order_does_not_take_it(database: Database) -> None:
    async with shop(database, runner=False) as here:
        lost = await lost_creation(here)
        looking = await claimed(here, lost)
        assert looking.is_past
        other = await here.desk.create(ACCOUNT, at_another_till(), key="k-2", asked_by="till-2")
        await steps(here)
        made = await here.becomes(other, status="done")
        settled = await commit_outcome(
            database, looking, Outcome(Verdict.DONE, status=200, order_id=made.order_id), None
        )
        assert settled is not None
        assert (settled.status, settled.order_id, settled.provider_code) == ("unknown", None, "taken")


async def test_a_person_cannot_give_a_creation_anothers_order(database: Database) -> None:
    async with shop(database, runner=False) as here:
        lost = await lost_creation(here)
        other = await here.desk.create(ACCOUNT, at_another_till(), key="k-2", asked_by="till-2")
        await here.runner._round()
        await asyncio.wait(here.runner._held)
        made = await here.becomes(other, status="done")
        with pytest.raises(WrongState) as refused:
            await here.desk.settle_by_hand(
                lost.command_id, status="done", note="that one", asked_by="ana", order_id=made.order_id
            )
        assert refused.value.code == "taken"
        assert (await found(here, lost)).status == "unknown"


async def test_an_order_of_another_type_is_not_the_one_that_was_lost(database: Database) -> None:
    async with shop(database, runner=False) as here:
        lost = await lost_creation(here)
        # The same reference and amount, taken on a terminal.
        await here.provider.tell("orders", {"type": "point", "total_amount": "100.00", "external_reference": "venta-1"})
        await steps(here)
        looked = await found(here, lost)
        assert (looked.status, looked.order_id) == ("unknown", None)
        assert "lists no order" in (looked.message or "")


async def test_a_refund_that_was_under_way_when_the_account_was_paused_may_have_been_made(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        asked = await refund(here, order_id, "30.00", "r-1")
        work = await claimed(here, asked)
        # The runner dies with the answer in its hands, and nothing goes out for the account now.
        await here.client.refund_order(ACCOUNT, order_id, work.body, work.command.provider_key)
        await database.execute("update cuadre.commands set leased_until = now() - interval '1 second'")
        paused = here.accounts.pop(ACCOUNT.name)
        await steps(here)
        postponed = await here.becomes(asked, last_error="account: default is not configured here")
        assert postponed.status == "unknown"
        here.accounts[ACCOUNT.name] = paused
        # Who refuses now need not know of it.
        await here.provider.faults(refund=GATEWAY)
        await steps(here)
        assert (await found(here, asked)).status == "unknown"
        await here.provider.faults()
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        done = await here.settled(asked)
        assert done.status == "done"
        assert [one["id"] for one in await here.provider.refunds(order_id)] == list(done.refund_ids)


async def late(here: Shop, asked: CommandRow, outcome: Outcome) -> CommandRow:
    """Settled as refused while its first call was under way; then that call ends with `outcome`."""
    work = await claimed(here, asked)
    await here.database.execute(
        "update cuadre.commands set status = 'refused', provider_code = 'not_found', settled_at = now(), "
        "due_at = null, lease_token = null, leased_until = null where command_id = $1",
        asked.command_id,
    )
    assert await commit_outcome(here.database, work, outcome, None) is None
    return await found(here, asked)


async def test_a_refund_that_succeeds_late_is_a_refund(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        asked = await refund(here, order_id, "30.00", "r-1")
        await here.provider.tell(f"orders/{order_id}/refund", {"amount": "30.00"})
        (made,) = await here.provider.refunds(order_id)
        told = MadeRefund(made["id"], None, None, "processed")
        opened = await late(here, asked, Outcome(Verdict.ACCEPTED, status=201, refunds=(told,)))
        assert (opened.status, opened.refund_ids, opened.settled_at) == ("accepted", (made["id"],), None)
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        assert (await here.settled(asked)).status == "done"


async def test_a_cancellation_that_succeeds_late_is_a_cancellation(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = (await here.provider.tell("orders", {"type": "qr", "total_amount": "10.00"}))["id"]
        await here.know(order_id)
        asked = await here.desk.cancel(order_id, key="c-1", asked_by="till-1")
        await here.provider.tell(f"orders/{order_id}/cancel", {})
        opened = await late(here, asked, Outcome(Verdict.ACCEPTED, status=200, order_id=order_id))
        assert (opened.status, opened.settled_at, opened.provider_code) == ("accepted", None, None)
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        assert (await here.settled(asked)).status == "done"


async def test_a_refund_from_before_it_was_asked_for_is_not_its_own(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        await here.provider.tell(f"orders/{order_id}/refund", {"amount": "20.00"})
        await here.know(order_id)
        await here.provider.faults(refund=[LOST_BEFORE, GATEWAY])
        asked = await refund(here, order_id, "20.00", "r-1")
        await steps(here)
        await steps(here)
        await here.provider.faults()
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        refused = await here.settled(asked)
        assert (refused.status, refused.provider_code, refused.refund_ids) == ("refused", "not_found", ())


async def test_everything_that_was_left_is_not_the_refund_of_another_command(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        mine = await refund(here, order_id, "60.00", "r-1")
        await steps(here)
        await here.know(order_id)
        await steps(here)
        (named,) = (await here.becomes(mine, status="done")).refund_ids
        await here.provider.faults(refund=LOST_BEFORE)
        rest = await refund(here, order_id, None, "r-2")
        assert rest.options == {"everything": True}
        await steps(here)
        rest = await here.becomes(rest, status="unknown")
        # The panel takes the rest in two parts, and the order shows them before the refund that was made here.
        for amount in ("25.00", "15.00"):
            await here.provider.tell(f"orders/{order_id}/refund", {"amount": amount})
        await here.know(order_id)
        await database.execute(
            "update cuadre.refunds set position = 9, first_seen_at = now() where order_id = $1 and refund_id = $2",
            order_id,
            named,
        )
        assert await made_refunds(database, rest) == []


async def test_a_cancellation_is_not_settled_by_a_look_from_before_it_was_sent(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = (await here.provider.tell("orders", {"type": "qr", "total_amount": "10.00"}))["id"]
        await here.know(order_id)
        asked = await here.desk.cancel(order_id, key="c-1", asked_by="till-1")
        await here.worker.stop(within_seconds=5)
        await steps(here)
        await here.becomes(asked, status="accepted")
        stored = (
            "update cuadre.orders set status = 'expired', claimed_at = c.attempted_at + $1::text::interval "
            "from cuadre.commands as c where orders.order_id = c.order_id"
        )
        await database.execute(stored, "-1 second")
        await steps(here)
        assert (await found(here, asked)).status == "accepted"
        await database.execute(stored, "1 second")
        await steps(here)

        async def done() -> bool:
            return (await found(here, asked)).status == "done"

        await until(done, what="a look from after it settles it")
