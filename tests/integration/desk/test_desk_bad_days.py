"""Lost answers, outages, limits and pauses, crashes and frozen runners: one effect, and it is known in the end."""

import asyncio
from dataclasses import replace
from random import random
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.errors import AlreadySent, WrongState
from service.desk.intents import CommandRow
from service.mercadopago.account import Account
from service.mercadopago.pacing import AccountGate
from tests.support.desk import ACCOUNT, Shop, qr, shop
from tests.support.waiting import until

LOST = {"body": "disconnect", "count": 1}


def at_till(number: int) -> dict[str, Any]:
    """A sale on a printed QR of its own: on one of them a newer sale ends an older one."""
    return qr(f"venta-{number}", config={"qr": {"external_pos_id": f"CAJA{number}", "mode": "static"}})


async def refund(here: Shop, order_id: str, amount: str | None, key: str = "k") -> CommandRow:
    return await here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till-1")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_creation_whose_answer_was_lost_is_found_under_the_same_key(database: Database, when: str) -> None:
    async with shop(database) as here:
        await here.provider.faults(create=LOST | {"when": when})
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        unknown = await here.becomes(asked, status="unknown")
        assert unknown.last_error is not None
        with pytest.raises(AlreadySent):
            await here.desk.withdraw(asked.command_id, asked_by="till-1")
        done = await here.settled(asked)
        assert done.status == "done"
        assert set(await here.provider.orders()) == {done.order_id}


@pytest.mark.parametrize("fault", [LOST, {"status": 500, "count": 2}, {"status": 503, "count": 2, "body": "html"}])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_refund_whose_answer_was_lost_is_made_once(
    database: Database, fault: dict[str, object], when: str
) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.provider.faults(refund=fault | {"when": when})
        done = await here.settled(await refund(here, order_id, "30.00"))
        assert done.status == "done"
        assert [one["id"] for one in await here.provider.refunds(order_id)] == list(done.refund_ids)


async def test_a_time_out_is_repeated_while_the_first_call_still_runs(database: Database) -> None:
    async with shop(database, client_timeout_seconds=0.3) as here:
        await here.provider.faults(create={"latency_ms": 800, "count": 1})
        done = await here.settled(await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1"))
        assert done.status == "done"
        assert set(await here.provider.orders()) == {done.order_id}
        # The key was in use when it was asked again.
        assert (await here.provider.calls())["create", 423] >= 1


async def test_a_provider_that_cannot_be_reached_leaves_commands_waiting_and_withdrawable(database: Database) -> None:
    async with shop(database) as here:
        here.client._transport._base_url = "http://127.0.0.1:9"  # nobody listens there
        first = await here.desk.create(ACCOUNT, at_till(1), key="k-1", asked_by="till-1")
        second = await here.desk.create(ACCOUNT, at_till(2), key="k-2", asked_by="till-1")

        async def tried() -> bool:
            row = await here.desk.find(first.command_id)
            assert row is not None
            return row.status == "waiting" and row.attempts > 0 and row.last_error is not None

        await until(tried, what="it was tried")
        withdrawn = await until(lambda: _withdrawn(here, first), what="it is withdrawn")
        assert withdrawn is not None
        assert (withdrawn.status, withdrawn.maybe_sent_at) == ("withdrawn", None)
        assert withdrawn.message == "Withdrawn before it was sent: Mercado Pago never heard of it. (till-1)"
        assert withdrawn.answer == {"withdrawn_by": "till-1"}
        assert await here.desk.withdraw(first.command_id, asked_by="till-1") == withdrawn
        here.client._transport._base_url = here.provider.url
        done = await here.settled(second)
        assert done.status == "done"
        assert set(await here.provider.orders()) == {done.order_id}
        with pytest.raises(WrongState):
            await here.desk.withdraw(second.command_id, asked_by="till-1")


async def _withdrawn(here: Shop, command: CommandRow) -> CommandRow | None:
    """Tried while an attempt may be under way, too."""
    try:
        return await here.desk.withdraw(command.command_id, asked_by="till-1")
    except AlreadySent:
        return None


async def test_an_outage_holds_commands_back_visibly_until_the_probe_succeeds(database: Database) -> None:
    async with shop(database) as here:
        await here.provider.faults(create={"status": 503})
        asked = [
            await here.desk.create(ACCOUNT, at_till(number), key=f"k-{number}", asked_by="till-1")
            for number in range(12)
        ]

        async def shut() -> bool:
            await here.hurry()
            gate = here.worker.gates.gate("default")
            assert gate is not None
            return gate.paused(asyncio.get_running_loop().time()) == "outage"

        await until(shut, what="the breaker opens")
        late = await here.desk.create(ACCOUNT, at_till(99), key="late", asked_by="till-1")

        async def held_back() -> CommandRow | None:
            row = await here.desk.find(late.command_id)
            assert row is not None
            return row if row.last_error is not None else None

        waiting = await until(held_back, what="it is held back, with the reason")
        assert waiting is not None
        assert (waiting.status, waiting.maybe_sent_at, waiting.attempts) == ("waiting", None, 0)
        assert waiting.last_error is not None
        assert waiting.last_error.startswith("outage")
        assert (await here.desk.withdraw(late.command_id, asked_by="till-1")).status == "withdrawn"
        await here.provider.faults()
        # Changed settings are tried at once.
        here.worker.follow([replace(ACCOUNT, rate_per_second=9_999)])
        settled = [await here.settled(one) for one in asked]
        assert {one.status for one in settled} == {"done"}
        assert set(await here.provider.orders()) == {one.order_id for one in settled}


async def test_too_many_requests_is_waited_out_and_took_no_effect(database: Database) -> None:
    async with shop(database) as here:
        await here.provider.faults(create={"status": 429, "count": 1, "retry_after": 600})
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        limited = await here.becomes(asked, status="waiting", provider_status=429)
        assert limited.maybe_sent_at is None
        assert limited.due_at is not None
        assert limited.valid_until is not None
        # No later than the sale's own end.
        assert limited.due_at <= limited.valid_until
        # The account's gate waits, whoever is in a hurry.
        await here.hurry()
        paused = await here.becomes(asked, last_error="rate_limited: nothing goes out for account default now")
        assert paused.status == "waiting"
        assert (await here.provider.calls())["create", 429] == 1
        assert (await here.desk.withdraw(asked.command_id, asked_by="till-1")).status == "withdrawn"


async def test_a_refused_token_pauses_the_account_and_its_commands_wait(database: Database) -> None:
    wrong = Account("default", user_id="2100457788", access_token="APP_USR-wrong", rate_per_second=1000)
    async with shop(database, account=wrong, access_tokens={"APP_USR-right": "2100457788"}) as here:
        asked = await here.desk.create(wrong, qr(), key="k-1", asked_by="till-1")
        waiting = await here.becomes(asked, status="waiting", provider_status=401)
        assert waiting.maybe_sent_at is None
        await here.hurry()
        await here.becomes(asked, last_error="refused: nothing goes out for account default now")
        right = Account("default", user_id="2100457788", access_token="APP_USR-right", rate_per_second=1000)
        here.accounts["default"] = right
        here.worker.follow([right])
        assert (await here.settled(asked)).status == "done"


async def test_commands_of_an_unknown_account_wait_and_say_why(database: Database) -> None:
    async with shop(database) as here:
        nobody = Account("nobody", user_id="1", access_token="APP_USR-nobody")
        asked = await here.desk.create(nobody, qr(), key="k-1", asked_by="till-1")
        waiting = await here.becomes(asked, last_error="account: nobody is not configured here")
        assert (waiting.status, waiting.attempts) == ("waiting", 0)


async def test_a_sale_that_nobody_waits_for_any_more_is_withdrawn_unsent(database: Database) -> None:
    async with shop(database, runner=False) as here:
        short = await here.desk.create(ACCOUNT, qr(expiration_time="PT30S"), key="k-1", asked_by="till-1")
        assert short.valid_until is not None
        assert (short.valid_until - short.asked_at).total_seconds() == 30
        sent = await here.desk.create(ACCOUNT, qr("venta-2"), key="k-2", asked_by="till-1")
        await database.execute("update cuadre.commands set valid_until = now() - interval '1 second'")
        await database.execute(
            "update cuadre.commands set maybe_sent_at = now(), status = 'unknown' where command_id = $1",
            sent.command_id,
        )
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        withdrawn = await here.settled(short)
        assert withdrawn.status == "withdrawn"
        assert withdrawn.message

        # One that may have been sent is looked for, and not made now: somebody else would pay it.
        async def looked_for() -> bool:
            found = await here.desk.find(sent.command_id)
            return found is not None and "lists no order" in (found.message or "")

        await until(looked_for, what="it was searched for")
        assert await here.provider.orders() == {}
        # A day after it would have ended it is given up.
        await database.execute(
            "update cuadre.commands set valid_until = now() - interval '25 h', attempted_at = now() - interval '25 h', "
            "expires_at = now() - interval '25 h', maybe_sent_at = now() - interval '25 h' where command_id = $1",
            sent.command_id,
        )
        given_up = await here.settled(sent)
        assert (given_up.status, given_up.provider_code) == ("refused", "not_found_after_24h")
        assert await here.provider.orders() == {}


async def test_a_runner_that_dies_between_claim_and_outcome_is_followed_by_another(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        asked = await refund(here, order_id, "30.00")
        await here.provider.faults(refund={"latency_ms": 1_000, "count": 1})
        dying = here.another_runner()
        task = asyncio.create_task(dying.run())

        async def made() -> bool:
            return len(await here.provider.refunds(order_id)) == 1

        await until(made, what="the refund took effect")
        task.cancel()
        for one in dying._held:
            one.cancel()
        assert (await here.becomes(asked, status="sending")).maybe_sent_at is not None
        await here.provider.faults()
        await database.execute("update cuadre.commands set leased_until = now() - interval '1 second'")
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        done = await here.settled(asked, seconds=90)
        assert done.status == "done"
        assert [one["id"] for one in await here.provider.refunds(order_id)] == list(done.refund_ids)


async def test_a_frozen_runner_that_goes_on_after_its_lease_changes_nothing(database: Database) -> None:
    async with shop(database, runner=False) as here:
        frozen, went_on = asyncio.Event(), asyncio.Event()

        class Freezing:
            """Stands between the call and its outcome, like a process that is stopped there."""

            def __getattr__(self, name: str) -> object:
                return getattr(here.client, name)

            async def create_order(self, *arguments: object) -> object:
                answer = await here.client.create_order(*arguments)  # type: ignore[arg-type]  # passed on as they came
                frozen.set()
                await went_on.wait()
                return answer

        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        slow = here.another_runner()
        slow._tools = type(slow._tools)(database, Freezing())  # type: ignore[arg-type]  # a client but for one call
        # One round: a whole process that is frozen claims nothing more.
        await slow._round()
        await frozen.wait()
        await database.execute("update cuadre.commands set leased_until = now() - interval '1 second'")
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        done = await here.settled(asked)
        went_on.set()
        await asyncio.wait(slow._held)
        assert await here.desk.find(asked.command_id) == done
        assert set(await here.provider.orders()) == {done.order_id}


async def test_a_runner_that_was_frozen_past_its_lease_before_the_call_sends_nothing(database: Database) -> None:
    async with shop(database, runner=False) as here:
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        now, gate = 0.0, AccountGate(1000, random=random)
        slow = here.another_runner(clock=lambda: now, gate=lambda _name: gate)
        await slow._round()
        # The claim is committed, and its task has not begun.
        now = 3600.0
        await asyncio.wait(slow._held)
        assert (await here.becomes(asked, status="sending")).attempts == 1
        assert (await here.provider.calls())["create", 201] == 0
        await database.execute("update cuadre.commands set leased_until = now() - interval '1 second'")
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        assert (await here.settled(asked)).status == "done"
        assert len(await here.provider.orders()) == 1


async def test_withdrawing_and_sending_at_once_has_one_winner(database: Database) -> None:
    async with shop(database) as here:
        for number in range(12):
            asked = await here.desk.create(ACCOUNT, qr(f"venta-{number}"), key=f"k-{number}", asked_by="till-1")
            try:
                withdrawn = (await here.desk.withdraw(asked.command_id, asked_by="till-1")).status == "withdrawn"
            except (AlreadySent, WrongState):
                withdrawn = False
            final = await here.settled(asked)
            assert final.status == ("withdrawn" if withdrawn else "done")
            made = {order["external_reference"] for order in (await here.provider.orders()).values()}
            assert (f"venta-{number}" in made) is not withdrawn


async def test_two_runners_share_the_work_and_send_nothing_twice(database: Database) -> None:
    async with shop(database, runner=False) as here:
        asked = [
            await here.desk.create(ACCOUNT, at_till(number), key=f"k-{number}", asked_by="till-1")
            for number in range(30)
        ]
        other = here.another_runner()
        here.tasks["other"] = asyncio.create_task(other.run())
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        settled = [await here.settled(one) for one in asked]
        await other.stop(within_seconds=5)
        assert {(one.status, one.attempts) for one in settled} == {("done", 1)}
        assert (await here.provider.calls())["create", 201] == 30


async def test_stopping_gives_back_what_is_under_way(database: Database) -> None:
    async with shop(database, client_timeout_seconds=30) as here:
        await here.provider.faults(create={"body": "hang"})
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")

        async def under_way() -> bool:
            return (await here.provider.ask("requests"))["total"] > 0 or bool(here.runner._held)

        await until(under_way, what="it is being sent")
        await here.becomes(asked, status="sending")
        await here.runner.stop(within_seconds=0.1)
        left = await database.fetchrow("select status, leased_until, due_at <= now() as is_due from cuadre.commands")
        assert left is not None
        assert tuple(left.values()) == ("unknown", None, True)
        await here.provider.faults()
        other = here.another_runner()
        here.tasks["other"] = asyncio.create_task(other.run())
        assert (await here.settled(asked)).status == "done"
        await other.stop(within_seconds=5)


async def test_commands_go_out_although_looks_have_used_up_the_rate(database: Database) -> None:
    slow = Account("default", user_id="2100457788", access_token="APP_USR-simulator", rate_per_second=0.5)
    async with shop(database, account=slow, worker=False) as here:
        gate = here.worker.gates.gate("default")
        assert gate is not None
        gate.take(asyncio.get_running_loop().time(), known=50)
        done = await here.settled(await here.desk.create(slow, qr(), key="k-1", asked_by="till-1"))
        assert done.status == "done"
