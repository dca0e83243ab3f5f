"""The calls of the two documents that the project starts from, one test each, with what the caller gets.

"Integrate QR attended model" (legacy): the creation of an order with `X-Ttl-Store-Preference`, and its deletion.
"Get order by ID, QR Code": `GET /v1/orders/{id}` and its four errors.
"""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import AccountRefused, BadRequest, OrderNotFound, ServerTrouble
from tests.support.processes import Simulator

SAMPLE = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "order-refunded-qr-official-sample.json"
POS = "CAJA01"
ATTENDED = {
    "external_reference": "venta-1",
    "items": [
        {
            "id": "78123172",
            "title": "Café con medialunas",
            "currency_id": "ARS",
            "unit_price": 12.5,
            "quantity": 2,
            "description": "Desayuno",
        }
    ],
    "notification_url": "https://shop.example/notifications",
}


def put_there(simulator: Simulator) -> Any:
    [order] = simulator.ask("legacy")["data"]
    return order


async def test_legacy_create_with_x_ttl_store_preference(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    answer = await client.put_legacy_order(
        account, POS, json.dumps(ATTENDED), generation="v1", ttl_seconds=180, store_id=None
    )
    assert answer.status == 200
    assert (answer.code, answer.message) == (None, None)
    assert answer.document is not None
    assert str(answer.document["id"]).startswith("2100457788-")
    assert answer.document["total_amount"] == 25
    assert answer.document["external_reference"] == "venta-1"
    there = put_there(simulator)
    assert (there["state"], there["external_pos_id"], there["generation"]) == ("live", POS, "v1")
    life = datetime.fromisoformat(there["expires_at"]) - datetime.fromisoformat(there["created_at"])
    assert round(life.total_seconds()) == 180


async def test_legacy_delete_204(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    await client.put_legacy_order(account, POS, json.dumps(ATTENDED), generation="v1", ttl_seconds=None, store_id=None)
    answer = await client.delete_legacy_order(account, POS, generation="v1", store_id=None)
    assert (answer.status, answer.document, answer.text, answer.code) == (204, None, "", None)
    assert put_there(simulator)["state"] == "deleted"


async def test_get_order_by_id(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    sample = json.loads(SAMPLE.read_bytes())
    simulator.tell("orders", {"raw": sample})
    read = (await client.get_order(account, sample["id"])).read
    assert json.loads(read.text) == sample
    assert (read.snapshot.type, read.snapshot.status, read.snapshot.status_detail) == ("qr", "refunded", "created")
    [payment], [refund] = read.snapshot.payments, read.snapshot.refunds
    assert (payment.amount, payment.paid_amount) == (Decimal("50.00"), Decimal("47.28"))
    assert (refund.transaction_id, refund.amount) == (payment.payment_id, Decimal("47.28"))


def failing(simulator: Simulator, status: int, code: str, message: str) -> str:
    order_id: str = simulator.tell("orders", {"total_amount": "50.00"})["id"]
    simulator.tell("faults", {"get_order": {"status": status, "code": code, "message": message}})
    return order_id


async def test_get_order_by_id_400(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    order_id = failing(simulator, 400, "invalid_path_param", "The order id is not valid.")
    with pytest.raises(BadRequest) as caught:
        await client.get_order(account, order_id)
    assert (caught.value.status, caught.value.outcome) == (400, "bad_request")
    assert str(caught.value) == "400 invalid_path_param: The order id is not valid."


async def test_get_order_by_id_401(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    order_id = failing(simulator, 401, "unauthorized", "invalid access token")
    with pytest.raises(AccountRefused) as caught:
        await client.get_order(account, order_id)
    assert (caught.value.status, caught.value.outcome) == (401, "unauthorized")
    assert str(caught.value) == "401 unauthorized: invalid access token"
    assert account.access_token is not None
    assert account.access_token not in str(caught.value)


async def test_get_order_by_id_404(client: MercadoPagoClient, account: Account) -> None:
    with pytest.raises(OrderNotFound) as caught:
        await client.get_order(account, "ORD01M2G3K2XF0W7YQHBTWEK4BXB9")
    assert (caught.value.status, caught.value.outcome) == (404, "not_found")
    assert str(caught.value).startswith("404 order_not_found")


async def test_get_order_by_id_500(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    order_id = failing(simulator, 500, "500", "Internal server error")
    with pytest.raises(ServerTrouble) as caught:
        await client.get_order(account, order_id)
    assert (caught.value.status, caught.value.outcome) == (500, "server_error")
    assert str(caught.value) == "500 500: Internal server error"
    simulator.tell("faults", {})
    assert (await client.get_order(account, order_id)).read.snapshot.status == "created"
