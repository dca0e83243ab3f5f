"""Answers that say less than they seem to: a 402 whose order lives, a 403 to one call, words that quote a card token."""

import asyncio
from collections.abc import Callable
from typing import Any

from service.database.pool import Database
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.json_text import dumps
from tests.support.desk import ACCOUNT, qr, shop


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


async def test_a_402_that_tells_no_order_is_asked_again_under_the_same_key(database: Database) -> None:
    answers = iter([declined(None), declined({})])
    async with shop(database, wrap=between(lambda _answer: next(answers, None))) as here:
        settled = await here.settled(await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1"))
        assert (settled.status, settled.attempts) == ("done", 3)
        assert set(await here.provider.orders()) == {settled.order_id}
