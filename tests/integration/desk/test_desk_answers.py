"""Answers that say less than they seem to: a 402 whose order lives, a 403 to one call, words that quote a token."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.intents import CommandRow
from service.desk.search import NOT_FOUND
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.json_text import dumps
from service.mercadopago.pacing import AccountGate
from tests.support.desk import ACCOUNT, Shop, qr, shop
from tests.support.waiting import until


class Between:
    """A client between whose creations and the desk `retold` stands, as long as it gives an answer of its own."""

    def __init__(self, client: MercadoPagoClient, retold: Callable[[ProviderAnswer], ProviderAnswer | None]) -> None:
        self.client = client
        self.retold = retold

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    async def create_order(self, *arguments: Any) -> ProviderAnswer:
        answer = await self.client.create_order(*arguments)
        return self.retold(answer) or answer


def between(retold: Callable[[ProviderAnswer], ProviderAnswer | None]) -> Callable[[MercadoPagoClient], Any]:
    return lambda client: Between(client, retold)


def declined(order: dict[str, object] | None) -> ProviderAnswer:
    """A 402 with this order in `data`."""
    document: dict[str, object] = {"errors": [{"code": "failed", "message": "The transactions failed"}]}
    document |= {} if order is None else {"data": order}
    return ProviderAnswer(402, "failed", "The transactions failed", document, dumps(document), None)


async def test_a_402_whose_order_lives_is_that_order(database: Database) -> None:
    async with shop(database, wrap=between(lambda answer: declined(answer.document))) as here:
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        settled = await here.settled(asked)
        (order_id,) = await here.provider.orders()
        assert (settled.status, settled.order_id) == ("done", order_id)
        # Nothing was sent a second time, and what is stored is what a look showed.
        assert (await here.provider.calls())["create", 201] == 1
        assert (await here.know(order_id))["status"] == "created"


async def test_a_402_whose_order_turns_out_to_be_over_is_refused(database: Database) -> None:
    async with shop(database, worker=False, wrap=between(lambda answer: declined(answer.document))) as here:
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        unknown = await here.becomes(asked, status="unknown")
        (order_id,) = await here.provider.orders()
        assert (unknown.order_id, unknown.settled_at) == (order_id, None)
        # It was marked due in the same commit.
        assert await database.fetchval("select requested > fetched from cuadre.sync where order_id = $1", order_id)
        await here.provider.tell(f"orders/{order_id}/cancel", {})
        here.tasks["sync"] = asyncio.create_task(here.worker.run())
        settled = await here.settled(asked)
        assert (settled.status, settled.provider_code, settled.order_id) == ("refused", "failed", order_id)
        assert settled.message is not None
        assert "another card" in settled.message


async def test_a_402_whose_order_is_never_shown_is_given_up_a_day_after_its_end(database: Database) -> None:
    async with shop(database, worker=False, wrap=between(lambda answer: declined(answer.document))) as here:
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        unknown = await here.becomes(asked, status="unknown")
        moments = ("asked_at", "maybe_sent_at", "attempted_at", "valid_until", "expires_at")
        earlier = ", ".join(f"{name} = {name} - interval '2 days'" for name in moments)
        await database.execute(f"update cuadre.commands set {earlier}")
        settled = await here.settled(asked)
        assert (settled.status, settled.provider_code) == ("refused", NOT_FOUND)
        assert settled.order_id == unknown.order_id, "should it be shown after all, it is known whose it is"


async def test_a_402_that_tells_no_order_is_asked_again_under_the_same_key(database: Database) -> None:
    answers = iter([declined(None), declined({})])
    async with shop(database, wrap=between(lambda _answer: next(answers, None))) as here:
        settled = await here.settled(await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1"))
        assert (settled.status, settled.attempts) == ("done", 3)
        assert set(await here.provider.orders()) == {settled.order_id}


def gate_of(here: Shop) -> AccountGate:
    gate = here.worker.gates.gate(ACCOUNT.name)
    assert gate is not None
    return gate


def paused(here: Shop) -> str | None:
    return gate_of(here).paused(asyncio.get_running_loop().time())


async def refund(here: Shop, order_id: str, amount: str = "1.00", key: str = "r-1") -> CommandRow:
    return await here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till-1")


async def test_a_gateways_403_to_one_call_holds_up_no_other_till(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        await here.provider.faults(refund={"status": 403, "body": "html"})
        forbidden = await refund(here, order_id)
        waiting = await here.becomes(forbidden, status="waiting", provider_status=403)
        assert waiting.message is not None
        assert "access token" not in waiting.message
        assert paused(here) is None
        other = await here.desk.create(ACCOUNT, qr("venta-2"), key="k-2", asked_by="till-2")
        assert (await here.settled(other)).status == "done"
        assert paused(here) is None
        # It passes, as gateways' moods do.
        await here.provider.faults()
        assert (await here.settled(forbidden)).status == "done"
        assert len(await here.provider.refunds(order_id)) == 1


async def test_a_403_without_a_reason_does_not_open_an_account_whose_token_is_refused(database: Database) -> None:
    async with shop(database, worker=False) as here:
        order = await here.provider.tell("orders", {"type": "qr", "total_amount": "10.00"})
        await here.provider.faults(create={"status": 403, "body": "html"}, get_order={"status": 401})
        gate = gate_of(here)
        gate.take(asyncio.get_running_loop().time(), known=1)
        gate.refused(asyncio.get_running_loop().time())
        # Changed settings have a probe due, and a command may be it.
        here.worker.follow([replace(ACCOUNT, rate_per_second=9_999)])
        asked = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        waiting = await here.becomes(asked, status="waiting", provider_status=403)
        assert waiting.maybe_sent_at is None
        assert paused(here) == "refused"
        assert set(await here.provider.orders()) == {order["id"]}


async def test_a_search_that_is_forbidden_holds_up_no_till(database: Database) -> None:
    async with shop(database) as here:
        await here.provider.faults(create={"body": "disconnect", "when": "after"}, search={"status": 403})
        lost = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        await here.becomes(lost, status="unknown")
        await database.execute("update cuadre.commands set options = options || '{\"must_compare\": 0}'")
        await here.hurry()
        await here.becomes(lost, status="unknown", provider_code="forbidden")
        assert paused(here) is None
        await here.provider.faults()
        other = await here.desk.create(ACCOUNT, qr("venta-2"), key="k-2", asked_by="till-2")
        assert (await here.settled(other)).status == "done"
        assert paused(here) is None


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_gateways_400_is_no_refusal(database: Database, when: str) -> None:
    """Whoever asked again after it, under another key, would be given the money twice."""
    async with shop(database) as here:
        order_id = await here.sell()
        await here.provider.faults(refund={"status": 400, "body": "html", "when": when})
        asked = await here.becomes(await refund(here, order_id), status="unknown", provider_status=400)
        assert asked.settled_at is None
        await here.provider.faults()
        assert (await here.settled(asked)).status == "done"
        assert len(await here.provider.refunds(order_id)) == 1


async def test_a_gateways_400_after_a_time_out_does_not_say_that_nothing_is_at_work(database: Database) -> None:
    async with shop(database) as here:
        order_id = await here.sell()
        page = {"status": 400, "body": "html", "when": "before"}
        await here.provider.faults(refund=[{"body": "disconnect", "when": "before", "count": 1}, page])
        asked = await here.becomes(await refund(here, order_id), status="unknown")
        await database.execute("update cuadre.commands set maybe_sent_at = now() - interval '11 minutes'")
        await here.hurry()

        async def is_compared() -> bool:
            return bool(await database.fetchval("select options ? 'must_compare' from cuadre.commands"))

        await until(is_compared, what="nothing more is sent")
        await here.hurry()
        # The attempt that was lost may still land: the order is read once it has had its time.
        found = await here.becomes(asked, status="unknown")
        assert found.options["must_compare"] == 300
