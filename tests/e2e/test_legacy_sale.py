"""A sale of the legacy attended QR through the running service: put up, found, paid, refunded, taken off."""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import TOKEN, Service, Simulator, call, free_port, serving, simulator
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow

KEY = "e2e-till-key"
SELLER = "2100457788"
SALE = {
    "external_reference": "venta-1",
    "items": [{"title": "Yerba", "currency_id": "ARS", "unit_price": 25.5, "quantity": 2}],
}


@dataclass
class Till:
    """A till that speaks the service's own API with a key that may move money."""

    service: Service
    provider: Simulator
    keys: int = 0

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """(status, parsed answer); every command has a key of its own."""
        self.keys += 1
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.service.internal_port}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {KEY}",
                "Content-Type": "application/json",
                "Idempotency-Key": f"key-{self.keys}",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                text, status = response.read(), response.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
        return status, json.loads(text) if text else None

    def act(self, name: str, **body: Any) -> Any:
        return self.provider.tell(f"legacy/CAJA01/{name}", body)

    def order(self, order_id: str, **expected: Any) -> Any:
        """The stored order once it says so."""

        def once() -> Any:
            status, found = self.ask("GET", f"orders/{order_id}")
            return found if status == 200 and all(found[key] == value for key, value in expected.items()) else None

        return until_sync(once, what=f"{order_id} is {expected}; {self.service.process.output()[-3000:]}", seconds=40)


@contextmanager
def opened(folder: Path, dsn: str, generation: str) -> Iterator[Till]:
    """A till of one account that speaks this generation."""
    account = {
        "name": "default",
        "user_id": SELLER,
        "access_token": TOKEN,
        "currency": "ARS",
        "legacy_qr": generation,
        "legacy_store_id": "TIENDA1",
    }
    folder.mkdir(parents=True, exist_ok=True)
    accounts, keys = folder / "accounts.json", folder / "keys.json"
    accounts.write_text(json.dumps([account]))
    keys.write_text(
        json.dumps([{"name": "till", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["money"]}])
    )
    with (
        simulator(folder, webhook_port=free_port()) as provider,
        serving(
            folder, dsn, provider.url, accounts_file=str(accounts), api_keys_file=str(keys), internal_auth="on"
        ) as service,
    ):
        yield Till(service, provider)


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_a_sale_from_the_till_to_the_refund(tmp_path: Path, database_dsn: str, generation: str) -> None:
    with opened(tmp_path, database_dsn, generation) as till:
        status, answer = till.ask("POST", "legacy-qr/CAJA01", {"order": SALE, "ttl_seconds": 180})
        assert (status, answer["command"]["status"]) == (201, "done"), answer
        assert (Decimal(answer["command"]["amount"]), answer["command"]["currency"]) == (Decimal(51), "ARS")
        # No notice at all: the sale names no address, and its watch finds it.
        told = till.act("pay")
        order_id = f"MO{told['merchant_order']['id']}"
        order = till.order(order_id, status="processed")
        assert (order["type"], order["external_reference"]) == ("legacy_qr", "venta-1")
        assert order["discrepancies"] == []
        payment = str(told["payments"][0]["id"])
        status, answer = till.ask("POST", f"orders/{order_id}/refunds", {"payment_id": payment, "amount": "11.10"})
        assert (status, answer["command"]["status"]) == (201, "done"), answer
        order = till.order(order_id, status_detail="partially_refunded")
        status, answer = till.ask("POST", f"orders/{order_id}/refunds", {})
        assert (status, Decimal(answer["command"]["amount"])) == (201, Decimal("39.90")), answer
        order = till.order(order_id, status="refunded")
        assert order["discrepancies"] == []
        (truth,) = till.provider.ask("legacy")["data"]
        assert [refund["amount"] for refund in truth["payments"][0]["refunds"]] == [11.1, 39.9]


def test_a_sale_is_told_of_and_taken_off(tmp_path: Path, database_dsn: str) -> None:
    with opened(tmp_path, database_dsn, "v1") as till:
        assert till.ask("POST", "legacy-qr/CAJA01", {"order": SALE})[0] == 201
        told = till.act("scan")
        number = told["merchant_order"]["id"]
        url = f"http://127.0.0.1:{till.service.public_port}/webhooks/mercadopago?topic=merchant_order&id={number}"
        assert call(url, {"resource": str(number), "topic": "merchant_order"})[0] == 200
        till.order(f"MO{number}", status="created")
        status, answer = till.ask("POST", f"orders/MO{number}/cancel")
        assert 400 <= status < 500, answer
        assert till.ask("DELETE", "legacy-qr/CAJA01") == (204, None)
        assert [place for place in till.provider.ask("places")["data"] if place.get("shows")] == []
        told = till.act("reject")
        payment = told["payments"][0]["id"]
        assert call(
            f"http://127.0.0.1:{till.service.public_port}/webhooks/mercadopago?topic=payment&id={payment}", {}
        ) == (200, {"status": "recorded"})
        order = till.order(f"MO{number}", status="canceled")
        assert [one["status"] for one in order["payments"]] == ["failed"]
        assert order["discrepancies"] == []
