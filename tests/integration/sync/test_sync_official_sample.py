"""The official sample order, announced by an unsigned notification: from the public port to the stored, clean order."""

import json
from decimal import Decimal
from pathlib import Path

from service.database.pool import Database
from service.mercadopago.account import Account
from tests.support.looking import open_discrepancies
from tests.support.provider import stub_provider
from tests.support.public_port import public_port
from tests.support.waiting import until
from tests.support.workers import Running

SAMPLE = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "order-refunded-qr-official-sample.json"


async def test_unsigned_to_stored_exactly_and_clean(database: Database) -> None:
    body = json.loads(SAMPLE.read_text())
    account = Account("default", access_token="APP_USR-t", webhook_secrets=("secret",))
    async with stub_provider() as provider, public_port(database, account) as port:
        provider.put(body)
        query = {"data.id": body["id"], "type": "order"}
        told = json.dumps({"action": "order.refunded", "type": "order", "data": {"id": body["id"]}}).encode()
        assert await port.post(told, query=query) == (200, "recorded")
        async with Running(database, provider, account):

            async def is_stored() -> bool:
                return bool(await database.fetchval("select count(*) from cuadre.orders"))

            await until(is_stored, what="the sample is stored")
    row = await database.fetchrow("select * from cuadre.orders")
    assert row is not None
    assert json.loads(row["payload"]) == body
    assert (row["status"], row["status_detail"], row["currency"]) == ("refunded", "created", "CLP")
    assert (row["paid_amount"], row["refunded_amount"]) == (Decimal("47.28"), Decimal("47.28"))
    assert await database.fetchval("select verified from cuadre.notifications") is False
    assert await open_discrepancies(database) == set()
