"""The official SDK drives the simulator through refusals, payments' refunds and merchant orders."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mercadopago import SDK
from mercadopago.config import RequestOptions
from mercadopago.http import HttpClient

from tests.integration.simulator.simulator_expectations import CARD, POINT, QR
from tests.integration.simulator.simulator_expectations_legacy import SALE, V1


class Redirected(HttpClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client, speaking to another address."""

    def __init__(self, base: str) -> None:
        self.base = base

    def request(self, method: str, url: str, *arguments: Any, **more: Any) -> Any:
        return super().request(method, url.replace("https://api.mercadopago.com", self.base), *arguments, **more)


@pytest.fixture
async def sdk(simulator: Any) -> Any:
    return SDK("APP_USR-simulator", http_client=Redirected(simulator.base))


async def called(function: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    answer = await asyncio.to_thread(function, *arguments)
    return answer["status"], answer["response"]


def keyed(key: str, **headers: str) -> RequestOptions:
    return RequestOptions(access_token="APP_USR-simulator", custom_headers={"X-Idempotency-Key": key, **headers})


async def test_creates_are_refused_and_repeated(sdk: Any, simulator: Any) -> None:
    status, refused = await called(sdk.order().create, QR | {"notification_url": "https://example.test"})
    assert (status, refused["errors"][0]["code"]) == (400, "unsupported_properties")
    assert refused["errors"][0]["details"] == ["additionalProperties '$.notification_url' not allowed"]
    status, order = await called(sdk.order().create, QR, keyed("k"))
    assert await called(sdk.order().create, QR, keyed("k")) == (201, order)
    status, refused = await called(sdk.order().create, QR | {"description": "x"}, keyed("k"))
    assert (status, refused["errors"][0]["code"]) == (409, "idempotency_key_already_used")
    body = CARD | {"payer": {"email": "buyer@example.test", "first_name": "FUND"}}
    status, declined = await called(sdk.order().create, body)
    assert (status, declined["data"]["status"]) == (402, "failed")
    assert (await called(sdk.order().get, declined["data"]["id"]))[1] == declined["data"]


async def test_cancels_at_the_terminal(sdk: Any, simulator: Any) -> None:
    _, order = await called(sdk.order().create, POINT)
    status, refused = await called(sdk.order().create, POINT)
    assert (status, refused["errors"][0]["code"]) == (409, "already_queued_order_on_terminal")
    await simulator.control(f"orders/{order['id']}/terminal", {})
    status, refused = await called(sdk.order().cancel, order["id"])
    assert (status, refused["errors"][0]["code"]) == (409, "cannot_cancel_order")
    allowed = keyed("c", **{"x-allow-cancelable-status": "at_terminal"})
    status, answer = await called(sdk.order().cancel, order["id"], allowed)
    assert (status, answer["status_detail"]) == (200, "cancellation_requested")


async def test_refunds_of_an_order_are_refused(sdk: Any, simulator: Any) -> None:
    order = await simulator.order(status="processed", total_amount="100.00")
    part = {"transactions": [{"id": order["transactions"]["payments"][0]["id"], "amount": "60.00"}]}
    assert (await called(sdk.order().refund, order["id"], part, keyed("r1")))[0] == 201
    status, refused = await called(sdk.order().refund, order["id"], part, keyed("r2"))
    assert (status, refused["errors"][0]["code"]) == (400, "refund_amount_exceeds")
    assert (await called(sdk.order().refund, order["id"], part, keyed("r1")))[0] == 201
    shown = await simulator.control(f"orders/{order['id']}")
    assert [one["amount"] for one in shown["transactions"]["refunds"]] == ["60.00"]
    unpaid = await simulator.order()
    status, refused = await called(sdk.order().refund, unpaid["id"])
    assert (status, refused["errors"][0]["code"]) == (409, "cannot_refund_order")
    assert "'created'" in refused["errors"][0]["message"]


async def test_merchant_orders_payments_and_their_refunds(sdk: Any, simulator: Any) -> None:
    status, found = await called(sdk.merchant_order().search, {"external_reference": "legacy-1"})
    assert (status, found["elements"]) == (200, None)
    await simulator.api("POST", V1, json=SALE)
    await simulator.control("legacy/CAJA01/pay", {})
    _, found = await called(sdk.merchant_order().search, {"external_reference": "legacy-1"})
    (order,) = found["elements"]
    assert await called(sdk.merchant_order().get, str(order["id"])) == (200, order)
    assert order["status"] == "closed"
    payment_id = str(order["payments"][0]["id"])
    status, payment = await called(sdk.payment().get, payment_id)
    assert (status, payment["status"], payment["order"]["id"]) == (200, "approved", str(order["id"]))
    _, page = await called(sdk.payment().search, {"external_reference": "legacy-1"})
    assert page["results"] == [payment]
    status, refund = await called(sdk.refund().create, payment_id, {"amount": 20.5}, keyed("r"))
    assert (status, refund["amount"]) == (201, 20.5)
    assert await called(sdk.refund().create, payment_id, {"amount": 20.5}, keyed("r")) == (201, refund)
    status, refused = await called(sdk.refund().create, payment_id, {"amount": 40.0})
    assert (status, refused["cause"][0]["code"]) == (400, 2063)
    assert (await called(sdk.refund().create, payment_id))[1]["amount"] == 30.5
    _, refunds = await called(sdk.refund().list_all, payment_id)
    assert [one["amount"] for one in refunds] == [20.5, 30.5]
    assert (await called(sdk.payment().get, payment_id))[1]["status"] == "refunded"
