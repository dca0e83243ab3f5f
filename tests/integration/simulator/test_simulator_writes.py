"""Writes on bad days: lost answers, keys in use and forgotten, refusals that pass, and what happens by itself later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.integration.simulator.simulator_expectations import CARD, POINT, QR, changed
from tests.integration.simulator.simulator_expectations_legacy import SALE, SALE_V2, V1, V2, V2_READ

Simulator = Any
Start = Callable[..., Awaitable[Simulator]]


def key(value: str, **more: str) -> dict[str, str]:
    return {"X-Idempotency-Key": value} | more


async def lost(simulator: Simulator, method: str, path: str, **more: Any) -> None:
    """A call whose answer never comes."""
    with pytest.raises(aiohttp.ClientError):
        await simulator.api(method, path, **more)


async def truth(simulator: Simulator, order: Any) -> Any:
    return await simulator.control(f"orders/{order['id']}")


@pytest.mark.parametrize("body", ["disconnect", "cut", "garbage", None])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_create_whose_answer_is_lost(simulator: Simulator, when: str, body: str | None) -> None:
    fault = {"body": body, "when": when, "count": 1} if body else {"status": 503, "when": when, "count": 1}
    await simulator.control("faults", {"create": fault})
    try:
        status, _ = await simulator.api("POST", "/v1/orders", json=QR, headers=key("k"))
        assert status == 503
    except (aiohttp.ClientError, ValueError):
        pass
    made = (await simulator.control("orders"))["data"]
    assert len(made) == (1 if when == "after" else 0)
    status, order = await simulator.api("POST", "/v1/orders", json=QR, headers=key("k"))
    assert status == 201
    assert (await simulator.control("orders"))["data"] == [order]
    assert made in ([], [order])


async def test_a_cancel_whose_answer_is_lost(simulator: Simulator) -> None:
    order = await simulator.order()
    path = f"/v1/orders/{order['id']}/cancel"
    await simulator.control("faults", {"cancel": {"body": "disconnect", "when": "before", "count": 1}})
    await lost(simulator, "POST", path, headers=key("k"))
    assert (await truth(simulator, order))["status"] == "created"
    await simulator.control("faults", {"cancel": {"body": "disconnect", "when": "after", "count": 1}})
    await lost(simulator, "POST", path, headers=key("k"))
    canceled = await truth(simulator, order)
    assert canceled["status"] == "canceled"
    assert await simulator.api("POST", path, headers=key("k")) == (200, canceled)


@pytest.mark.parametrize(
    ("method", "path", "body", "read"),
    [("POST", V1, SALE, None), ("PUT", V2, SALE_V2, V2_READ)],
)
async def test_legacy_orders_whose_answers_are_lost(
    simulator: Simulator, method: str, path: str, body: Any, read: str | None
) -> None:
    for when, count in (("before", 0), ("after", 1)):
        await simulator.control("faults", {"legacy_create": {"status": 504, "when": when}})
        status, told = await simulator.api(method, path, json=body)
        assert (status, told["status"]) == (504, 504)
        assert len((await simulator.control("legacy"))["data"]) == count
    await simulator.control("faults", {"legacy_delete": {"status": 500, "when": "after"}})
    assert (await simulator.api("DELETE", read or path))[0] == 500
    assert (await simulator.control("legacy"))["data"][0]["state"] == "deleted"


async def test_a_payment_refund_whose_answer_is_lost(simulator: Simulator) -> None:
    await simulator.api("POST", V1, json=SALE)
    payment = (await simulator.control("legacy/CAJA01/pay", {}))["payments"][0]["id"]
    path = f"/v1/payments/{payment}/refunds"
    for when, left in (("before", 0), ("after", 5)):
        await simulator.control("faults", {"payment_refund": {"body": "disconnect", "when": when, "count": 1}})
        await lost(simulator, "POST", path, json={"amount": 5}, headers=key("k"))
        assert sum(one["amount"] for one in (await simulator.api("GET", path))[1]) == left
    status, refund = await simulator.api("POST", path, json={"amount": 5}, headers=key("k"))
    assert (status, (await simulator.api("GET", path))[1]) == (201, [refund])
    status, refused = await simulator.api("POST", path, json={"amount": 6}, headers=key("k"))
    assert (status, refused["cause"][0]["code"]) == (400, 4296)


async def test_a_key_is_in_use_until_its_first_request_is_answered(simulator: Simulator) -> None:
    await simulator.control("faults", {"create": {"latency_ms": 3000, "count": 1}})
    first = asyncio.create_task(simulator.api("POST", "/v1/orders", json=QR, headers=key("k")))
    async with asyncio.timeout(20):
        while not (await simulator.control("orders"))["data"]:
            pass
    status, refused = await simulator.api("POST", "/v1/orders", json=QR, headers=key("k"))
    assert (status, refused["errors"][0]["code"]) == (423, "resource_locked")
    assert not first.done()
    answer = await first
    assert answer[0] == 201
    assert await simulator.api("POST", "/v1/orders", json=QR, headers=key("k")) == answer


async def test_a_key_belongs_to_its_request_for_a_day(start: Start) -> None:
    simulator = await start(speed=0)
    _, order = await simulator.api("POST", "/v1/orders", json=QR, headers=key("k"))
    for path, body in (("/v1/orders", QR | {"description": "x"}), (f"/v1/orders/{order['id']}/cancel", None)):
        status, refused = await simulator.api("POST", path, json=body, headers=key("k"))
        assert (status, refused["errors"][0]["code"]) == (409, "idempotency_key_already_used")
    await simulator.control("clock", {"advance_seconds": 24 * 3600 - 1})
    assert (await simulator.api("POST", "/v1/orders", json=QR, headers=key("k")))[1] == order
    await simulator.control("clock", {"advance_seconds": 1})
    status, other = await simulator.api("POST", "/v1/orders", json=QR, headers=key("k"))
    assert status == 201
    assert other["id"] != order["id"]


async def test_a_declined_card_leaves_an_order_which_its_key_answers_again(simulator: Simulator, captured: Any) -> None:
    body = CARD | {"payer": {"email": "buyer@example.test", "first_name": "CALL"}}
    status, answer = await simulator.api("POST", "/v1/orders", json=body, headers=key("k"))
    example = captured("errors/402-failed-with-order.json")
    payment = answer["data"]["transactions"]["payments"][0]
    assert status == 402
    assert answer["errors"] == [
        example["errors"][0] | {"details": [f"{payment['id']}: {payment['status_detail']}"]},
    ]
    assert example["data"].keys() <= answer["data"].keys()
    assert (answer["data"]["total_paid_amount"], payment["paid_amount"]) == ("100.00", "100.00")
    assert await simulator.api("POST", "/v1/orders", json=body, headers=key("k")) == (402, answer)
    assert (await simulator.control("orders"))["data"] == [answer["data"]]


@pytest.mark.parametrize(("name", "status"), [("APRO", "processed"), ("CONT", "processing"), ("FUND", "failed")])
async def test_test_buyers_decide_what_their_cards_do(simulator: Simulator, name: str, status: str) -> None:
    body = CARD | {"payer": {"email": "buyer@example.test", "first_name": name}}
    await simulator.api("POST", "/v1/orders", json=body, headers=key("k"))
    assert (await simulator.control("orders"))["data"][0]["status"] == status


async def test_a_transfer_of_a_test_buyer_arrives_by_itself(start: Start) -> None:
    simulator = await start(speed=0)
    body = CARD | {
        "payer": {"email": "buyer@example.test", "first_name": "APRO"},
        "transactions": {"payments": [{"amount": "100.00", "payment_method": {"id": "pix", "type": "bank_transfer"}}]},
    }
    _, order = await simulator.api("POST", "/v1/orders", json=body, headers=key("k"))
    assert order["status"] == "action_required"
    await simulator.control("clock", {"advance_seconds": 4})
    assert (await truth(simulator, order))["status"] == "processed"


async def test_the_terminal_lets_go_later(start: Start, receiver: Any) -> None:
    simulator = await start(speed=0, webhook_url=receiver.url)
    orders = [await simulator.order(type="point", status="at_terminal", terminal_id=f"T{n}") for n in range(2)]
    allow = {"x-allow-cancelable-status": "at_terminal,created"}
    for order in orders:
        path = f"/v1/orders/{order['id']}/cancel"
        status, answer = await simulator.api("POST", path, headers=key(order["id"], **allow))
        assert (status, answer["status_detail"]) == (200, "cancellation_requested")
        assert await simulator.api("POST", path, headers=key("again" + order["id"], **allow)) == (200, answer)
    await simulator.control(f"orders/{orders[1]['id']}/pay", {"notify": False})
    await simulator.settled()
    assert receiver.received == []
    await simulator.control("clock", {"advance_seconds": 3})
    await simulator.settled()
    assert receiver.actions() == ["order.canceled"]
    canceled = await truth(simulator, orders[0])
    assert canceled["transactions"]["payments"][0]["status_detail"] == "canceled_by_api"
    assert (await truth(simulator, orders[1]))["status"] == "processed"


@pytest.mark.parametrize(("ends", "status"), [("processed", "refunded"), ("failed", "processed")])
async def test_a_refund_in_process_ends_by_itself(start: Start, receiver: Any, ends: str, status: str) -> None:
    simulator = await start(speed=0, webhook_url=receiver.url)
    await simulator.control("rules", {"refund_processing_seconds": 60, "refund_ends": ends})
    order = await simulator.order(status="processed", notify=False)
    path = f"/v1/orders/{order['id']}/refund"
    _, answer = await simulator.api("POST", path, headers=key("k"))
    assert (answer["status"], answer["transactions"]["refunds"][0]["status"]) == ("processed", "processing")
    await simulator.control("clock", {"advance_seconds": 60})
    await simulator.settled()
    shown = await truth(simulator, order)
    assert (shown["status"], shown["transactions"]["refunds"][0]["status"]) == (status, ends)
    assert receiver.actions() == (["order.refunded"] if ends == "processed" else [])


async def test_too_soon_passes_with_the_same_key(start: Start) -> None:
    simulator = await start(speed=0)
    await simulator.control("faults", {"not_yet": {"cancel": {}, "refund": {"seconds": 2}}})
    order = await simulator.order()
    path = f"/v1/orders/{order['id']}"
    status, refused = await simulator.api("POST", f"{path}/cancel", headers=key("c"))
    assert (status, refused["errors"][0]["code"]) == (409, "processor_communication_error")
    await simulator.control("clock", {"advance_seconds": 5})
    await simulator.control(f"orders/{order['id']}/pay", {})
    status, refused = await simulator.api("POST", f"{path}/refund", headers=key("r"))
    assert (status, refused["errors"][0]["code"]) == (422, "unprocessable_entity")
    await simulator.control("clock", {"advance_seconds": 2})
    assert (await simulator.api("POST", f"{path}/refund", headers=key("r")))[0] == 201
    assert (await simulator.control("faults", {}))["not_yet"] == {}


async def test_a_terminal_takes_one_order_at_a_time(simulator: Simulator) -> None:
    _, order = await simulator.api("POST", "/v1/orders", json=POINT, headers=key("1"))
    assert (await simulator.api("POST", "/v1/orders", json=POINT, headers=key("2")))[0] == 409
    (place,) = (await simulator.control("places"))["data"]
    assert (place["kind"], place["shows"], place["open"]) == ("terminal", {"order_id": order["id"]}, [order["id"]])
    await simulator.control(f"orders/{order['id']}/terminal", {})
    assert (await simulator.api("POST", "/v1/orders", json=POINT, headers=key("2")))[0] == 409
    await simulator.control(f"orders/{order['id']}/pay", {})
    assert (await simulator.api("POST", "/v1/orders", json=POINT, headers=key("2")))[0] == 201


async def test_a_printed_qr_shows_the_newest_order(simulator: Simulator) -> None:
    made = [(await simulator.api("POST", "/v1/orders", json=QR, headers=key(str(n))))[1]["id"] for n in range(2)]
    dynamic = changed(QR, config={"qr": {"external_pos_id": "CAJA01", "mode": "dynamic"}})
    await simulator.api("POST", "/v1/orders", json=dynamic, headers=key("d"))
    (place,) = (await simulator.control("places"))["data"]
    assert (place["name"], place["shows"], place["open"]) == ("CAJA01", {"order_id": made[1]}, made)
    await simulator.control(f"orders/{made[1]}/pay", {})
    (place,) = (await simulator.control("places"))["data"]
    assert (place["shows"], place["open"]) == (None, made[:1])
    await simulator.api("POST", V1, json=SALE)
    (place,) = (await simulator.control("places"))["data"]
    assert place["shows"] == {"legacy": "v1", "external_reference": "legacy-1"}
    await simulator.api("POST", "/v1/orders", json=QR, headers=key("after"))
    assert (await simulator.control("legacy"))["data"][0]["state"] == "replaced"


async def test_a_new_order_may_cancel_the_one_it_replaces(simulator: Simulator) -> None:
    await simulator.control("rules", {"replaced_order": "canceled"})
    for n in range(2):
        await simulator.api("POST", "/v1/orders", json=QR, headers=key(str(n)))
    assert [one["status"] for one in (await simulator.control("orders"))["data"]] == ["canceled", "created"]
    await simulator.api("POST", V1, json=SALE)
    assert [one["status"] for one in (await simulator.control("orders"))["data"]] == ["canceled", "canceled"]


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', "[" * 100_000, "{", '{"a": 1'])
async def test_bodies_that_are_no_json_are_refused(simulator: Simulator, text: str) -> None:
    status, refused = await simulator.api("POST", "/v1/orders", data=text, headers=key("k"))
    assert (status, refused["errors"][0]["code"]) == (400, "json_syntax_error")
    status, refused = await simulator.api("POST", V1, data=text)
    assert (status, refused["error"]) == (400, "invalid_preference_body")


async def test_rules_are_told_changed_and_put_back(start: Start) -> None:
    simulator = await start(known_pos=("CAJA01",))
    usual = await simulator.control("rules")
    assert (usual["known_pos"], usual["queued_code"]) == (["CAJA01"], "already_queued_order_on_terminal")
    changed_rules = await simulator.control("rules", {"known_pos": None, "v2_get": "object"})
    assert (changed_rules["known_pos"], changed_rules["v2_get"]) == (None, "object")
    for wrong in ({"known_pos": "CAJA01"}, {"v2_get": "text"}, {"refund_window_days": -1}, {"colour": 1}):
        assert (await simulator.control("rules", wrong, 400))["error"]["code"] == "bad_request"
    assert await simulator.control("rules", {}) == usual
    await simulator.control("rules", {"decline": "high_risk"})
    await simulator.control("reset", {})
    assert await simulator.control("rules") == usual
