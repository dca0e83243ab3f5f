"""The official SDK drives the simulator, and its validator accepts our signatures."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mercadopago import SDK
from mercadopago.http import HttpClient
from mercadopago.webhook.validator import InvalidWebhookSignatureError, WebhookSignatureValidator

SECRET = "8f1d0c7be2a94563a7c1f09d5b3e6428a1b2c3d4e5f60718293a4b5c6d7e8f90"
QR = {
    "type": "qr",
    "total_amount": "100.00",
    "external_reference": "sdk-1",
    "config": {"qr": {"external_pos_id": "CAJA01"}},
    "transactions": {"payments": [{"amount": "100.00"}]},
}


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


async def test_a_sale_from_creation_to_refund(sdk: Any, simulator: Any) -> None:
    status, order = await called(sdk.order().create, QR)
    assert (status, order["status"]) == (201, "created")
    await simulator.control(f"orders/{order['id']}/pay", {})
    status, read = await called(sdk.order().get, order["id"])
    assert (status, read["status"], read["total_paid_amount"]) == (200, "processed", "100.00")
    part = {"transactions": [{"id": read["transactions"]["payments"][0]["id"], "amount": "40.00"}]}
    status, refunded = await called(sdk.order().refund, order["id"], part)
    assert (status, refunded["status_detail"]) == (201, "partially_refunded")
    status, refunded = await called(sdk.order().refund, order["id"])
    assert (status, refunded["status"]) == (201, "refunded")
    status, refused = await called(sdk.order().cancel, order["id"])
    assert (status, refused["errors"][0]["code"]) == (409, "cannot_cancel_order")


async def test_cancel_and_identity(sdk: Any) -> None:
    _, order = await called(sdk.order().create, QR)
    status, canceled = await called(sdk.order().cancel, order["id"])
    assert (status, canceled["status"]) == (200, "canceled")
    status, profile = await called(sdk.user().get)
    assert (status, profile["id"]) == (200, 2100457788)


async def test_search_pages_through_all_orders(sdk: Any, simulator: Any) -> None:
    made = {(await simulator.order())["id"] for _ in range(7)}
    now = datetime.now(UTC)
    filters = {
        "begin_date": (now - timedelta(hours=1)).isoformat(),
        "end_date": (now + timedelta(hours=1)).isoformat(),
    }
    status, page = await called(sdk.order().search, filters | {"page_size": 5})
    assert (status, len(page["data"]), page["paging"]["total"]) == (200, 5, "7")
    everything = await asyncio.to_thread(lambda: list(sdk.order().search_auto_paging_iter(filters, limit=3)))
    assert {order["id"] for order in everything} == made
    assert len(everything) == 7


async def test_the_validator_accepts_verbatim_signatures_and_no_others(simulator: Any, receiver: Any) -> None:
    await simulator.order(status="processed")
    await simulator.control("faults", {"notification": {"sign": "verbatim"}})
    await simulator.order(status="processed")
    await simulator.settled()
    lowercase, verbatim = receiver.received

    def validate(one: Any, data_id: str) -> None:
        headers = one.headers
        WebhookSignatureValidator.validate(
            headers["X-Signature"], headers["X-Request-Id"], data_id, SECRET, tolerance_seconds=60
        )

    validate(verbatim, verbatim.query["data.id"])
    validate(lowercase, lowercase.query["data.id"].lower())
    with pytest.raises(InvalidWebhookSignatureError):
        validate(lowercase, lowercase.query["data.id"])
