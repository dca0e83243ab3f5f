"""Guards of the desk that show only where two things go wrong at once."""

import asyncio
import re
import time
from collections import Counter
from dataclasses import replace

import pytest

from service.database.pool import Database
from service.desk.calls import send_refund
from service.desk.intents import QUERIES, CommandRow
from service.desk.outcomes import Outcome, Verdict
from service.desk.search import IN_FLIGHT, MUST_COMPARE
from service.desk.settle import commit_outcome
from service.desk.work import CREATE_LATE_SECONDS, Tools, Work, work_of
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.pacing import AccountGate
from tests.support.desk import ACCOUNT, Shop, point, qr, shop

OTHER = replace(ACCOUNT, name="other")


async def refund(here: Shop, order_id: str, amount: str = "30.00", key: str = "r-1") -> CommandRow:
    return await here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till-1")


async def claimed(database: Database, command_id: str) -> Work:
    (row,) = await database.fetch(QUERIES.claim_due_commands, [ACCOUNT.name], [1], 1, 60.0, 72_000.0)
    assert row["command_id"] == command_id
    return work_of(row)


async def end_leases(database: Database) -> None:
    await database.execute("update cuadre.commands set leased_until = now() - interval '1 second'")


async def test_a_call_that_outlasts_a_short_lease_is_made_once(database: Database) -> None:
    async with shop(database, runner=False) as here:
        await here.provider.faults(create={"latency_ms": 1_500})
        short = here.another_runner(lease_seconds=1.0)
        here.tasks["short"] = asyncio.create_task(short.run())
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        done = await here.desk.wait(asked.command_id, seconds=20)
        await short.stop(within_seconds=5)
        assert (done.status, done.attempts) == ("done", 1)
        assert (await here.provider.calls())["create", 201] == 1


async def test_no_account_takes_the_slots_that_another_waits_for(database: Database) -> None:
    async with shop(database, runner=False) as here:
        here.accounts["other"] = OTHER
        here.worker.follow([ACCOUNT, OTHER])
        for number in range(6):
            sale = point(f"venta-{number}", terminal=f"PAX_A910__{number}")
            await here.desk.create(ACCOUNT, sale, key=f"k-{number}", asked_by="till-1")
        for number in range(2):
            sale = point(f"otra-{number}", terminal=f"PAX_A910__9{number}")
            await here.desk.create(OTHER, sale, key=f"k-{number}", asked_by="till-2")
        runner = here.another_runner(concurrency=4)
        await runner._round()
        assert Counter(work.command.account for work in runner._held.values()) == {"default": 2, "other": 2}
        await asyncio.wait(runner._held)


async def test_a_shut_account_is_probed_by_one_command(database: Database) -> None:
    async with shop(database, runner=False, worker=False) as here:
        await here.provider.faults(create={"status": 401, "code": "unauthorized"})
        for number in range(5):
            await here.desk.create(ACCOUNT, qr(f"venta-{number}"), key=f"k-{number}", asked_by="till-1")
        gate = here.worker.gates.gate(ACCOUNT.name)
        assert isinstance(gate, AccountGate)
        gate.take(asyncio.get_running_loop().time(), known=1)
        gate.refused(asyncio.get_running_loop().time())
        # Changed settings have a probe due.
        here.worker.follow([replace(ACCOUNT, rate_per_second=9_999)])
        await here.runner._round()
        await asyncio.wait(here.runner._held)
        assert (await here.provider.calls())["create", 401] == 1
        rows = await database.fetch("select attempts from cuadre.commands")
        assert sorted(row["attempts"] for row in rows) == [0, 0, 0, 0, 1]


async def test_already_refunded_is_not_believed_to_be_ours_before_the_order_shows_it(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        lost = {"body": "disconnect", "when": "before", "count": 1}
        wrong = {"status": 409, "code": "order_already_refunded", "when": "before", "count": 1}
        await here.provider.faults(refund=[lost, wrong])
        settled = await here.settled(await refund(here, order_id))
        assert (settled.status, settled.provider_code) == ("refused", "not_found")
        assert await here.provider.refunds(order_id) == []


@pytest.mark.parametrize(
    ("status", "code", "at_work"),
    [
        (408, "x", True),
        (423, "x", True),
        (503, "x", True),
        (None, "x", True),
        (400, None, True),
        (404, None, True),
        (409, "x", False),
        (400, "x", False),
    ],
)
async def test_an_attempt_may_be_at_work_unless_a_refusal_says_that_none_is(
    database: Database, status: int | None, code: str | None, at_work: bool
) -> None:
    async with shop(database, runner=False) as here:
        asked = await refund(here, await here.sell())
        work = await claimed(database, asked.command_id)
        outcome = Outcome(Verdict.COMPARE, code=code, status=status, wait_seconds=1.0, unknown=True)
        unknown = await commit_outcome(database, work, outcome, None)
        assert unknown is not None
        assert unknown.options[MUST_COMPARE] == (IN_FLIGHT.total_seconds() if at_work else 0)


async def test_an_attempt_of_unknown_outcome_has_its_order_looked_at(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.worker.stop(within_seconds=5)
        looks = "select requested from cuadre.sync where order_id = $1"
        before = await database.fetchval(looks, order_id)
        await here.provider.faults(refund={"body": "disconnect", "when": "after"})
        await here.becomes(await refund(here, order_id), status="unknown")
        assert await database.fetchval(looks, order_id) > before


async def test_who_died_while_sending_may_have_been_heard(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        asked = await refund(here, order_id)
        dying = await claimed(database, asked.command_id)
        assert dying.is_first
        await send_refund(Tools(database, here.client), ACCOUNT, dying)
        await end_leases(database)
        # Whoever refuses now may know nothing of it.
        await here.provider.faults(refund={"status": 400, "code": "bad_request", "when": "before"})
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        settled = await here.settled(asked)
        (made,) = await here.provider.refunds(order_id)
        assert (settled.status, settled.refund_ids) == ("done", (made["id"],))


@pytest.mark.parametrize("is_first", [True, False])
async def test_only_a_first_attempt_that_never_left_leaves_a_command_unsent(database: Database, is_first: bool) -> None:
    async with shop(database, runner=False) as here:
        asked = await refund(here, await here.sell())
        work = await claimed(database, asked.command_id)
        if not is_first:
            await end_leases(database)
            work = await claimed(database, asked.command_id)
        assert work.is_first is is_first
        waiting = await commit_outcome(database, work, Outcome(Verdict.UNSENT, wait_seconds=1.0), None)
        assert waiting is not None
        assert (waiting.maybe_sent_at is None) is is_first


@pytest.mark.parametrize(
    ("kind", "late_seconds", "is_sent"),
    [
        ("create", CREATE_LATE_SECONDS, False),
        ("create", CREATE_LATE_SECONDS - 1, True),
        ("refund", CREATE_LATE_SECONDS, True),
    ],
)
async def test_a_creation_that_begins_long_after_its_claim_is_not_sent(
    database: Database, kind: str, late_seconds: float, is_sent: bool
) -> None:
    """The process stood still in between: what is newer on the point of sale has not waited for it."""
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        before = await here.provider.calls()
        asked = await (
            here.desk.create(ACCOUNT, qr("venta-2"), key="k-2", asked_by="till-1")
            if kind == "create"
            else refund(here, order_id)
        )
        stood_still = 0.0
        frozen = here.another_runner(clock=lambda: time.monotonic() + stood_still)
        await frozen._round()
        (begins,) = frozen._held
        stood_still = late_seconds
        await asyncio.wait([begins])
        assert (await here.provider.calls() - before)[kind, 201] == is_sent
        found = await here.desk.find(asked.command_id)
        assert found is not None
        assert (found.status == "sending") is not is_sent
        # Whoever has it next sends it, under the same key.
        await end_leases(database)
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        assert (await here.settled(asked)).status == "done"
        assert (await here.provider.calls() - before)[kind, 201] == 1


async def test_what_is_newer_waits_for_as_long_as_a_creation_may_be_under_way() -> None:
    """From its claim to its begin, and from there to the end of its call."""
    (waits,) = re.findall(r"attempted_at > now\(\) - interval '(\d+) seconds'", QUERIES.claim_due_commands)
    usual = MercadoPagoClient("https://api.mercadopago.com")
    assert CREATE_LATE_SECONDS + usual.total_timeout_seconds < float(waits)
