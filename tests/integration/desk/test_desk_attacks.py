"""Gateways that refuse what was done, leases that end too early, and what must not be kept."""

import pytest

from service.database.pool import Database
from service.desk.intents import QUERIES, CommandRow
from service.desk.outcomes import Outcome, Verdict
from service.desk.settle import commit_outcome
from service.desk.work import Work, work_of
from tests.support.desk import ACCOUNT, Shop, qr, shop


async def refund(here: Shop, order_id: str, amount: str, key: str) -> CommandRow:
    return await here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till-1")


FROM_BEFORE_THE_PROVIDER = [
    {"status": 400, "code": "bad_request"},
    {"status": 404, "code": "transaction_not_found"},
    {"status": 403, "code": "some_gateway"},
]


@pytest.mark.parametrize("refusal", FROM_BEFORE_THE_PROVIDER)
async def test_who_refuses_after_a_lost_answer_may_know_nothing_of_it(
    database: Database, refusal: dict[str, object]
) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        lost = {"body": "disconnect", "when": "after", "count": 1}
        await here.provider.faults(refund=[lost, refusal | {"count": 1, "when": "before"}])
        first = await here.settled(await refund(here, order_id, "40.00", key="r-1"))
        assert first.status == "done"
        assert [one["amount"] for one in await here.provider.refunds(order_id)] == ["40.00"]


async def test_a_creation_whose_answer_was_lost_outlives_a_gateways_refusal(database: Database) -> None:
    async with shop(database) as here:
        lost = {"body": "disconnect", "when": "after", "count": 1}
        await here.provider.faults(create=[lost, {"status": 404, "body": "html", "count": 1, "when": "before"}])
        made = await here.settled(await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1"))
        assert made.status == "done"
        assert set(await here.provider.orders()) == {made.order_id}


async def test_what_the_provider_did_for_a_lost_lease_is_not_lost(database: Database) -> None:
    async with shop(database, runner=False) as here:
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        work = await _claimed(database, asked.command_id)
        await database.execute(
            "update cuadre.commands set status = 'refused', settled_at = now(), lease_token = null, leased_until = null"
        )
        made = Outcome(Verdict.DONE, status=201, order_id="ORD01JSA8Q0000000000000000AA")
        assert await commit_outcome(database, work, made, None) is None
        found = await here.desk.find(asked.command_id)
        assert found is not None
        assert (found.status, found.order_id) == ("done", "ORD01JSA8Q0000000000000000AA")
        due = await database.fetchval("select order_id from cuadre.sync where due_at <= now()")
        assert due == "ORD01JSA8Q0000000000000000AA"


async def _claimed(database: Database, command_id: str) -> Work:
    (row,) = await database.fetch(QUERIES.claim_due_commands, [ACCOUNT.name], [1], 1, 60.0, 72_000.0)
    assert row["command_id"] == command_id
    return work_of(row)


async def test_settled_commands_keep_no_payer_and_no_card(database: Database) -> None:
    order = {
        "type": "online",
        "external_reference": "web-1",
        "total_amount": "50.00",
        "payer": {"email": "ana@example.com"},
        "transactions": {
            "payments": [
                {"amount": "50.00", "payment_method": {"id": "visa", "type": "credit_card", "token": "card-t0ken"}}
            ]
        },
    }
    async with shop(database) as here:
        done = await here.settled(await here.desk.create(ACCOUNT, order, key="k-1", asked_by="web"))
        assert done.status == "done"
        kept = await database.fetchval("select body || coalesce(answer::text, '') from cuadre.commands")
        assert "50.00" in kept
        assert "ana@example.com" not in kept
        assert "card-t0ken" not in kept


async def test_a_refund_of_an_order_that_is_shown_no_longer_is_known_by_its_number(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        done = await here.settled(await refund(here, order_id, "30.00", key="r-1"))
        reference = await database.fetchval("select reference_id from cuadre.refunds where order_id = $1", order_id)
        await database.execute("update cuadre.refunds set refund_id = $1 where order_id = $2", reference, order_id)
        await database.execute(
            "update cuadre.commands set status = 'accepted', settled_at = null, due_at = now() where command_id = $1",
            done.command_id,
        )

        settled = await here.settled(done)

        assert (settled.status, list(settled.refund_ids)) == ("done", [reference])
