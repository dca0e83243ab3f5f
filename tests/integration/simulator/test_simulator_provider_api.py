"""The provider's API over HTTP: answers, errors, idempotency, tokens."""

from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

Simulator = Any
Start = Callable[..., Awaitable[Simulator]]
QR = {
    "type": "qr",
    "total_amount": "100.00",
    "external_reference": "sale-1",
    "config": {"qr": {"external_pos_id": "CAJA01", "mode": "dynamic"}},
    "transactions": {"payments": [{"amount": "100.00"}]},
}
WINDOW = {"begin_date": "2026-09-01T00:00:00Z", "end_date": "2026-09-30T00:00:00Z"}


def key(value: str) -> dict[str, str]:
    return {"X-Idempotency-Key": value}


async def test_get_answers_what_the_ledger_holds(simulator: Simulator) -> None:
    order = await simulator.order(status="partially_refunded")
    status, body = await simulator.api("GET", f"/v1/orders/{order['id']}")
    assert (status, body) == (200, order)
    assert await simulator.control(f"orders/{order['id']}") == order
    assert (await simulator.control("orders"))["data"] == [order]


@pytest.mark.parametrize(
    ("path", "status", "example"),
    [
        ("/v1/orders/123456", 400, "errors/400-invalid_path_param.json"),
        ("/v1/orders/ORD01M2G3K2XF0W7YQHBTWEK4BXB9", 404, "errors/404-order_not_found.json"),
    ],
)
async def test_errors_of_get(simulator: Simulator, captured: Any, path: str, status: int, example: str) -> None:
    assert await simulator.api("GET", path) == (status, captured(example))


async def test_who_may_ask(start: Start, captured: Any) -> None:
    simulator = await start(access_tokens={"APP_USR-one": "1", "APP_USR-two": "2"})
    order = await simulator.order(user_id="1")
    foreign = await simulator.order(user_id="999")
    path = f"/v1/orders/{order['id']}"
    answer = await simulator.api("GET", path, headers={"Authorization": ""})
    assert answer == (401, captured("errors/401-unauthorized-flat.json"))
    simulator.token = "APP_USR-unknown"
    status, body = await simulator.api("GET", path)
    assert (status, body["code"]) == (401, "unauthorized")
    simulator.token = "TEST-1"
    status, body = await simulator.api("GET", path)
    assert (status, body["message"]) == (403, "At least one policy returned UNAUTHORIZED.")
    simulator.token = "APP_USR-two"
    assert (await simulator.api("GET", path))[0] == 404
    assert (await simulator.api("GET", f"/v1/orders/{foreign['id']}"))[0] == 200
    simulator.token = "APP_USR-one"
    assert (await simulator.api("GET", path))[0] == 200
    assert (await simulator.api("GET", "/users/me"))[1]["id"] == 1


async def test_any_token_will_do_when_none_is_set(simulator: Simulator) -> None:
    simulator.token = "whatever"
    status, body = await simulator.api("GET", "/users/me")
    assert (status, body["id"], body["site_id"]) == (200, 2100457788, "MLA")


async def test_the_date_header_is_the_simulated_clock(start: Start) -> None:
    simulator = await start(speed=0)
    await simulator.control("clock", {"set": "2026-09-14T10:00:00-03:00"})
    async with simulator.client.get("/users/me", headers={"Authorization": "Bearer x"}) as response:
        assert response.headers["Date"] == "Mon, 14 Sep 2026 13:00:00 GMT"
        assert parsedate_to_datetime(response.headers["Date"]).hour == 13


async def test_search_over_http(start: Start, captured: Any) -> None:
    simulator = await start(speed=0)
    await simulator.control("clock", {"set": "2026-09-14T13:00:00Z"})
    order = await simulator.order()
    status, body = await simulator.api("GET", "/v1/orders", params=WINDOW)
    assert (status, body["data"], body["paging"]["total"]) == (200, [order], "1")
    wide = WINDOW | {"begin_date": "2026-08-01T00:00:00Z"}
    assert await simulator.api("GET", "/v1/orders", params=wide) == (400, captured("errors/400-search-range.json"))
    await simulator.control("faults", {"indexing_lag_seconds": 2})
    assert (await simulator.api("GET", "/v1/orders", params=WINDOW))[1]["data"] == []
    await simulator.control("clock", {"advance_seconds": 2})
    assert (await simulator.api("GET", "/v1/orders", params=WINDOW))[1]["data"] == [order]


async def test_create_is_idempotent(simulator: Simulator, captured: Any) -> None:
    assert await simulator.api("POST", "/v1/orders", json=QR) == (
        400,
        captured("errors/400-empty_required_header.json"),
    )
    status, order = await simulator.api("POST", "/v1/orders", json=QR, headers=key("k1"))
    assert (status, order["status"], order["type_response"].keys()) == (201, "created", {"qr_data"})
    assert await simulator.api("POST", "/v1/orders", json=QR, headers=key("k1")) == (201, order)
    again = await simulator.api("POST", "/v1/orders", json=QR | {"description": "x"}, headers=key("k1"))
    assert again == (409, captured("errors/409-idempotency_key_already_used.json"))
    _, other = await simulator.api("POST", "/v1/orders", json=QR, headers=key("k2"))
    assert other["id"] != order["id"]
    assert (await simulator.api("POST", "/v1/orders", json=QR, headers=key("k" * 129)))[0] == 400
    assert (await simulator.control("orders"))["paging"]["total"] == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"transactions": None}, "required_properties"),
        ({"external_reference": None}, "required_properties"),
        ({"config": {"qr": {}}}, "required_properties"),
        ({"notification_url": "https://example.test"}, "unsupported_properties"),
        ({"total_amount": "99.00"}, "invalid_total_amount"),
        ({"transactions": {"payments": [{"amount": "1.234"}]}}, "invalid_transaction_amount"),
        ({"transactions": {"payments": []}}, "minimum_items"),
        ({"type": "cash"}, "invalid_order_type"),
        ({"expiration_time": "soon"}, "property_value"),
    ],
)
async def test_create_refuses(simulator: Simulator, change: dict[str, Any], code: str) -> None:
    body = {name: value for name, value in (QR | change).items() if value is not None}
    status, answer = await simulator.api("POST", "/v1/orders", json=body, headers=key("k"))
    assert (status, answer["errors"][0]["code"]) == (400, code)


async def test_online_orders_go_on_at_once(simulator: Simulator) -> None:
    online = {"type": "online", "total_amount": "9.00", "payer": {"email": "a@testuser.com"}}
    pix = {"payments": [{"amount": "9.00", "payment_method": {"id": "pix", "type": "bank_transfer"}}]}
    card = {"payments": [{"amount": "9.00", "payment_method": {"id": "visa", "type": "credit_card", "token": "t"}}]}
    _, waiting = await simulator.api("POST", "/v1/orders", json=online | {"transactions": pix}, headers=key("p"))
    assert (waiting["status"], waiting["status_detail"]) == ("action_required", "waiting_transfer")
    _, paid = await simulator.api("POST", "/v1/orders", json=online | {"transactions": card}, headers=key("c"))
    assert (paid["status"], paid["status_detail"]) == ("processed", "accredited")
    assert "token" not in paid["transactions"]["payments"][0]["payment_method"]


async def test_refund_in_parts(simulator: Simulator, captured: Any) -> None:
    order = await simulator.order(status="processed", total_amount="100.00")
    path, payment = f"/v1/orders/{order['id']}/refund", order["transactions"]["payments"][0]["id"]
    part = {"transactions": [{"id": payment, "amount": "30.00"}]}
    status, answer = await simulator.api("POST", path, json=part, headers=key("r1"))
    assert (status, answer.keys()) == (201, {"id", "status", "status_detail", "transactions"})
    assert answer["status_detail"] == "partially_refunded"
    assert [one["amount"] for one in answer["transactions"]["refunds"]] == ["30.00"]
    assert await simulator.api("POST", path, json=part, headers=key("r1")) == (status, answer)
    too_much = {"transactions": [{"id": payment, "amount": "70.01"}]}
    status, refused = await simulator.api("POST", path, json=too_much, headers=key("r2"))
    assert (status, refused["errors"][0]["code"]) == (400, "refund_amount_exceeds")
    status, answer = await simulator.api("POST", path, headers=key("r3"))
    assert (status, answer["status"]) == (201, "refunded")
    assert [one["amount"] for one in answer["transactions"]["refunds"]] == ["70.00"]
    status, refused = await simulator.api("POST", path, headers=key("r4"))
    assert (status, refused["errors"][0]["code"]) == (409, "order_already_refunded")
    waiting = await simulator.order(status="action_required", type="online")
    answer = await simulator.api("POST", f"/v1/orders/{waiting['id']}/refund", headers=key("r5"))
    assert answer == (409, captured("errors/409-cannot_refund_order.json"))


async def test_several_refunds_in_one_request_are_all_or_none(simulator: Simulator) -> None:
    order = await simulator.order(status="processed", total_amount="100.00")
    path, payment = f"/v1/orders/{order['id']}/refund", order["transactions"]["payments"][0]["id"]
    both = {"transactions": [{"id": payment, "amount": "60.00"}, {"id": payment, "amount": "60.00"}]}
    assert (await simulator.api("POST", path, json=both, headers=key("r1")))[0] == 400
    assert await simulator.control(f"orders/{order['id']}") == order
    unknown = {"transactions": [{"id": "PAY0", "amount": "1.00"}]}
    assert (await simulator.api("POST", path, json=unknown, headers=key("r2")))[0] == 404
    assert (await simulator.api("POST", path, json={"amount": "1.00"}, headers=key("r3")))[0] == 400


async def test_cancel_by_type_and_state(simulator: Simulator) -> None:
    order = await simulator.order()
    path = f"/v1/orders/{order['id']}/cancel"
    status, answer = await simulator.api("POST", path, headers=key("c1"))
    assert (status, answer["status"]) == (200, "canceled")
    assert answer["transactions"]["payments"][0]["status_detail"] == "canceled_by_api"
    status, refused = await simulator.api("POST", path, headers=key("c2"))
    assert (status, refused["errors"][0]["code"]) == (409, "order_already_canceled")
    point = await simulator.order(type="point", status="at_terminal")
    path = f"/v1/orders/{point['id']}/cancel"
    status, refused = await simulator.api("POST", path, headers=key("c3"))
    assert (status, refused["errors"][0]["code"]) == (409, "cannot_cancel_order")
    allowed = key("c4") | {"x-allow-cancelable-status": "at_terminal"}
    status, answer = await simulator.api("POST", path, headers=allowed)
    assert (status, answer["status"], answer["status_detail"]) == (200, "at_terminal", "cancellation_requested")


async def test_the_request_log_knows_no_token(simulator: Simulator) -> None:
    simulator.token = "APP_USR-very-secret"
    order = await simulator.order()
    await simulator.api("GET", f"/v1/orders/{order['id']}?access_token=APP_USR-very-secret&x=1")
    await simulator.api("GET", "/v1/orders/1")
    log = await simulator.control("requests")
    assert [(one["operation"], one["status"]) for one in log["data"]] == [("get_order", 200), ("get_order", 400)]
    assert log["data"][0]["query"] == {"x": "1"}
    assert (log["total"], log["counts"]) == (2, {"get_order": {"200": 1, "400": 1}})
    assert "very-secret" not in str(log)
    assert len((await simulator.control("requests?limit=1"))["data"]) == 1


async def test_wrong_control_requests_say_what_is_wrong(simulator: Simulator) -> None:
    for path, body, expect, code in (
        ("orders", {"type": "cash"}, 400, "bad_request"),
        ("orders", {"raw": {}}, 400, "bad_request"),
        ("orders/ORD0/pay", {}, 404, "order_not_found"),
        ("clock", {"speed": -1}, 400, "bad_request"),
        ("faults", {"nonsense": {}}, 400, "bad_request"),
        ("notify", {"kind": "panel", "order_id": "x"}, 400, "bad_request"),
    ):
        assert (await simulator.control(path, body, expect))["error"]["code"] == code
    order = await simulator.order(status="processed")
    refused = await simulator.control(f"orders/{order['id']}/cancel", {}, 409)
    assert refused["error"]["code"] == "cannot_cancel_order"
    assert (await simulator.control(f"orders/{order['id']}/pay", {"amounts": "1"}, 400))["error"][
        "code"
    ] == "bad_request"


async def test_control_bodies_may_use_other_words(start: Start) -> None:
    simulator = await start(seed=11, speed=0)
    assert (await simulator.control("clock", {"now": "2026-09-14T13:00:00Z"}))["now"] == "2026-09-14T13:00:00.000Z"
    assert (await simulator.control("clock", {"advance": 90}))["now"] == "2026-09-14T13:01:30.000Z"
    order = await simulator.control("orders", {"amount": "47.50", "state": "processed"})
    assert (order["total_amount"], order["status"]) == ("47.50", "processed")
    for path, body in (
        ("clock", {"advance": 1, "advance_seconds": 1}),
        ("orders", {"amount": "1.00", "total_amount": "1.00"}),
        ("orders", {"amount": "much"}),
    ):
        assert (await simulator.control(path, body, 400))["error"]["code"] == "bad_request"
    assert len((await simulator.control("orders"))["data"]) == 1


async def test_two_runs_of_one_seed_end_in_the_same_ledger(start: Start) -> None:
    ledgers = []
    for _ in range(2):
        simulator = await start(seed=11, speed=0)
        await simulator.control("clock", {"set": "2026-09-14T13:00:00Z"})
        for number in range(6):
            order = await simulator.order(type=("qr", "point", "online")[number % 3])
            await simulator.control("clock", {"advance_seconds": 1.5})
            await simulator.control(f"orders/{order['id']}/pay", {})
            await simulator.control(f"orders/{order['id']}/refund", {"amount": "0.50"})
        await simulator.order(expiration_time="PT1M")
        await simulator.control("clock", {"advance_seconds": 100})
        ledgers.append(await simulator.control("orders"))
    assert ledgers[0] == ledgers[1]
    assert [one["status"] for one in ledgers[0]["data"]][-1] == "expired"


async def test_reset_starts_over(simulator: Simulator) -> None:
    first = await simulator.order(external_reference="a", status="processed")
    await simulator.control("faults", {"get_order": {"status": 500}})
    assert await simulator.control("reset", {"seed": 4}) == {"seed": 4}
    assert (await simulator.control("orders"))["data"] == []
    assert "get_order" not in await simulator.control("faults")
    second = await simulator.order(external_reference="a", status="processed")
    assert second["total_amount"] != first["total_amount"]
