"""The legacy attended QR from the till to the refund, as the merchant's own URL hears of it."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.simulator.simulator_expectations_legacy import SALE, SALE_V2, V1, V2, V2_READ

Simulator = Any
Receiver = Any
Start = Callable[..., Awaitable[Simulator]]
SECRET = "8f1d0c7be2a94563a7c1f09d5b3e6428a1b2c3d4e5f60718293a4b5c6d7e8f90"


def told(receiver: Receiver) -> Counter[tuple[str, str]]:
    """Which messages came, by topic or action and id."""
    return Counter(
        (one.query["topic"], one.query["id"]) if "topic" in one.query else (one.body["action"], one.query["data.id"])
        for one in receiver.received
    )


async def sold(simulator: Simulator, url: str | None = None, **headers: str) -> Any:
    body = SALE | ({"notification_url": url} if url else {})
    status, answer = await simulator.api("POST", V1, json=body, headers=headers)
    assert status == 200
    return answer


async def act(simulator: Simulator, name: str, expect: int | None = None, **body: Any) -> Any:
    return await simulator.control(f"legacy/CAJA01/{name}", body, expect)


async def test_a_sale_and_its_messages(start: Start, receiver: Receiver) -> None:
    simulator = await start(webhook_secret=SECRET)
    answer = await sold(simulator, receiver.url)
    assert answer["id"].startswith("2100457788-")
    assert (answer["notification_url"], answer["processing_modes"]) == (receiver.url, ["aggregator"])
    scanned = await act(simulator, "scan")
    order_id = str(scanned["merchant_order"]["id"])
    assert scanned["merchant_order"]["preference_id"] == answer["id"]
    await simulator.settled()
    assert told(receiver) == {("merchant_order", order_id): 1}
    receiver.received.clear()
    refused = await act(simulator, "reject")
    assert (refused["state"], refused["merchant_order"]["status"]) == ("live", "opened")
    await simulator.settled()
    first = str(refused["payments"][0]["id"])
    assert told(receiver) == {("payment.created", first): 1, ("payment", first): 1, ("merchant_order", order_id): 1}
    receiver.received.clear()
    paid = await act(simulator, "pay")
    second = str(paid["payments"][1]["id"])
    assert (paid["state"], paid["merchant_order"]["status"]) == ("paid", "closed")
    assert [one["status"] for one in paid["merchant_order"]["payments"]] == ["rejected", "approved"]
    await simulator.settled()
    assert told(receiver) == {("payment.created", second): 1, ("payment", second): 1, ("merchant_order", order_id): 2}
    assert all(one.headers["X-Signature"] for one in receiver.received)
    assert {one.headers["User-Agent"].split(" v")[0] for one in receiver.received} == {
        "MercadoPago Feed",
        "MercadoPago WebHook",
    }


async def test_refunds_are_told_and_shown(start: Start, receiver: Receiver) -> None:
    simulator = await start()
    await sold(simulator, receiver.url)
    payment = (await act(simulator, "pay", notify=False))["payments"][0]["id"]
    path = f"/v1/payments/{payment}/refunds"
    await simulator.api("POST", path, json={"amount": 11.1}, headers={"X-Idempotency-Key": "a"})
    await simulator.settled()
    assert {name for name, _ in told(receiver)} == {"payment.updated", "payment", "merchant_order"}
    _, shown = await simulator.api("GET", f"/v1/payments/{payment}")
    assert (shown["status"], shown["status_detail"]) == ("approved", "partially_refunded")
    assert shown["transaction_amount_refunded"] == 11.1
    _, order = await simulator.api("GET", f"/merchant_orders/{shown['order']['id']}")
    assert (order["status"], order["order_status"], order["refunded_amount"]) == ("closed", "partially_reverted", 11.1)
    await act(simulator, "refund")
    _, order = await simulator.api("GET", f"/merchant_orders/{shown['order']['id']}")
    assert (order["order_status"], order["paid_amount"], order["refunded_amount"]) == ("reverted", 51, 51)
    assert [one["amount"] for one in (await simulator.api("GET", path))[1]] == [11.1, 39.9]


@pytest.mark.parametrize(
    ("source", "names"), [("ipn", {"payment", "merchant_order"}), ("webhooks", {"payment.created"})]
)
async def test_a_url_may_choose_one_family(start: Start, receiver: Receiver, source: str, names: set[str]) -> None:
    simulator = await start()
    await sold(simulator, f"{receiver.url}&source_news={source}")
    await act(simulator, "pay")
    await simulator.settled()
    assert {name for name, _ in told(receiver)} == names


async def test_nobody_hears_of_an_order_without_a_url(simulator: Simulator, receiver: Receiver) -> None:
    await sold(simulator)
    await act(simulator, "pay")
    await simulator.settled()
    assert receiver.received == []


async def test_messages_are_lost_and_doubled_as_told(start: Start, receiver: Receiver) -> None:
    simulator = await start()
    await simulator.control("faults", {"notification": {"drop": 1}})
    await sold(simulator, receiver.url)
    await act(simulator, "scan")
    await simulator.control("faults", {"notification": {"duplicate": 1, "duplicate_gap_ms": 0}})
    await act(simulator, "reject")
    await simulator.settled()
    assert sum(told(receiver).values()) == 6


@pytest.mark.parametrize(("headers", "life"), [({}, 600), ({"X-Ttl-Store-Preference": "180"}, 180)])
async def test_an_order_runs_out_and_late_money_counts(start: Start, headers: dict[str, str], life: int) -> None:
    simulator = await start(speed=0)
    await sold(simulator, **headers)
    scanned = (await act(simulator, "scan"))["merchant_order"]
    await simulator.control("clock", {"advance_seconds": life - 1})
    assert (await simulator.control("legacy"))["data"][0]["state"] == "live"
    await simulator.control("clock", {"advance_seconds": 1})
    (entry,) = (await simulator.control("legacy"))["data"]
    assert (entry["state"], entry["merchant_order"]["status"]) == ("expired", "expired")
    paid = await act(simulator, "pay")
    assert (paid["merchant_order"]["id"], paid["merchant_order"]["status"]) == (scanned["id"], "closed")
    assert paid["merchant_order"]["date_created"].endswith("-04:00")


async def test_an_order_nobody_had_open_is_paid_late_only_if_told_so(start: Start) -> None:
    simulator = await start(speed=0)
    await sold(simulator)
    assert (await simulator.api("DELETE", V1))[0] == 204
    assert (await act(simulator, "pay", 409))["error"]["code"] == "order_not_shown"
    paid = await act(simulator, "pay", late=True)
    assert (paid["merchant_order"]["status"], paid["merchant_order"]["cancelled"]) == ("closed", False)
    assert (await act(simulator, "pay", 409))["error"]["code"] == "order_already_paid"
    assert (await simulator.control("legacy/CAJA09/scan", {}, 404))["error"]["code"] == "order_not_found"


async def test_a_new_order_replaces_the_old_one(simulator: Simulator) -> None:
    await sold(simulator)
    await act(simulator, "scan")
    assert (await simulator.api("PUT", V2, json=SALE_V2))[0] == 204
    first, second = (await simulator.control("legacy"))["data"]
    assert (first["state"], second["state"]) == ("replaced", "live")
    assert (await act(simulator, "pay"))["external_reference"] == "legacy-2"
    paid = await act(simulator, "pay", external_reference="legacy-1")
    assert (paid["generation"], paid["state"]) == ("v1", "paid")
    assert (await simulator.api("GET", V2_READ))[0] == 404


async def test_pending_money_is_decided_later_and_may_be_taken_back(simulator: Simulator) -> None:
    await sold(simulator)
    waiting = await act(simulator, "pending")
    assert (waiting["merchant_order"]["status"], waiting["merchant_order"]["order_status"]) == (
        "opened",
        "payment_in_process",
    )
    assert (await act(simulator, "approve"))["merchant_order"]["order_status"] == "paid"
    assert (await act(simulator, "approve", 409))["error"]["code"] == "payment_not_pending"
    taken = await act(simulator, "chargeback")
    assert (taken["payments"][0]["status"], taken["merchant_order"]["order_status"]) == ("charged_back", "reverted")


async def test_a_part_of_the_price_leaves_the_order_open(simulator: Simulator) -> None:
    await sold(simulator)
    part = await act(simulator, "pay", amount="20.00")
    assert (part["merchant_order"]["status"], part["merchant_order"]["order_status"]) == ("opened", "partially_paid")
    rest = await act(simulator, "pay")
    assert [one["transaction_amount"] for one in rest["payments"]] == [20, 31]
    assert rest["merchant_order"]["status"] == "closed"


async def test_sellers_see_their_own(start: Start) -> None:
    simulator = await start(access_tokens={"APP_USR-one": "2100457788", "APP_USR-two": "2"})
    simulator.token = "APP_USR-two"
    status, refused = await simulator.api("POST", V1, json=SALE)
    assert (status, refused["error"]) == (400, "invalid_caller_id")
    status, refused = await simulator.api("PUT", V2, json=SALE_V2)
    assert (status, refused["message"]) == (400, "Collector ID and Caller ID must be the same")
    simulator.token = "APP_USR-one"
    await sold(simulator)
    paid = await act(simulator, "pay")
    paths = [f"/merchant_orders/{paid['merchant_order']['id']}", f"/v1/payments/{paid['payments'][0]['id']}"]
    assert [(await simulator.api("GET", path))[0] for path in paths] == [200, 200]
    simulator.token = "APP_USR-two"
    assert [(await simulator.api("GET", path))[0] for path in paths] == [404, 404]
    assert (await simulator.api("GET", "/merchant_orders/search"))[1]["total"] == 0
    async with simulator.client.delete(V1, params={"access_token": "APP_USR-one"}) as response:
        assert response.status == 204


async def test_searches_lag_behind(start: Start) -> None:
    simulator = await start(speed=0)
    await simulator.control("faults", {"indexing_lag_seconds": 30})
    await sold(simulator)
    await act(simulator, "pay")
    paths = ("/merchant_orders/search?external_reference=legacy-1", "/v1/payments/search?external_reference=legacy-1")
    orders, payments = [(await simulator.api("GET", path))[1] for path in paths]
    assert (orders["elements"], payments["results"]) == (None, [])
    await simulator.control("clock", {"advance_seconds": 30})
    await simulator.control("rules", {"text_payment_ids": True})
    orders, payments = [(await simulator.api("GET", path))[1] for path in paths]
    assert (len(orders["elements"]), isinstance(payments["results"][0]["id"], str)) == (1, True)


async def test_faults_come_in_the_legacy_envelope(simulator: Simulator) -> None:
    await sold(simulator)
    paid = await act(simulator, "pay")
    path = f"/merchant_orders/{paid['merchant_order']['id']}"
    await simulator.control("faults", {"merchant_order": {"status": 429, "retry_after": 3, "count": 1}})
    status, body = await simulator.api("GET", path)
    assert (status, body["error"], body["cause"]) == (429, "too_many_requests", [])
    await simulator.control("faults", {"merchant_order": {"body": "truncated", "count": 1}})
    with pytest.raises(ValueError, match="line 1"):
        await simulator.api("GET", path)
    assert (await simulator.api("GET", path))[0] == 200
    await simulator.control("reset", {})
    assert (await simulator.api("GET", path))[0] == 404
    assert (await simulator.control("legacy"))["data"] == []


async def test_a_refund_in_process_of_a_payment_ends_by_itself(start: Start) -> None:
    simulator = await start(speed=0)
    await simulator.control("rules", {"refund_processing_seconds": 60})
    await sold(simulator)
    payment = (await act(simulator, "pay"))["payments"][0]["id"]
    path = f"/v1/payments/{payment}/refunds"
    _, refund = await simulator.api("POST", path, json={}, headers={"X-Idempotency-Key": "k"})
    assert refund["status"] == "in_process"
    status, refused = await simulator.api("POST", path, json={}, headers={"X-Idempotency-Key": "l"})
    assert (status, refused["cause"][0]["code"]) == (400, 2063)
    await simulator.control("clock", {"advance_seconds": 60})
    assert [one["status"] for one in (await simulator.api("GET", path))[1]] == ["approved"]
    assert (await simulator.api("GET", f"/v1/payments/{payment}"))[1]["status"] == "refunded"
