"""Deliveries as a receiver sees them: what is sent when, signing, retries, loss, copies, order."""

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

SECRET = "8f1d0c7be2a94563a7c1f09d5b3e6428a1b2c3d4e5f60718293a4b5c6d7e8f90"
Simulator = Any
Receiver = Any
Start = Callable[..., Awaitable[Simulator]]


def signed_with(received: Any, data_id: str | None, *, request_id: bool = True, secret: str = SECRET) -> bool:
    ts, v1 = received.headers["X-Signature"].removeprefix("ts=").split(",v1=")
    text = f"id:{data_id};" if data_id else ""
    text += f"request-id:{received.headers['X-Request-Id']};" if request_id else ""
    return hmac.new(secret.encode(), f"{text}ts:{ts};".encode(), hashlib.sha256).hexdigest() == str(v1)


async def test_a_payment_is_announced_as_documented(simulator: Simulator, receiver: Receiver) -> None:
    order = await simulator.order(external_reference="POS7 1/á")
    await simulator.settled()
    assert receiver.received == []
    await simulator.control(f"orders/{order['id']}/pay", {})
    await simulator.settled()
    (one,) = receiver.received
    assert one.query == {
        "client": "7",
        "data.external_reference": "POS7 1/á",
        "data.id": order["id"],
        "type": "order",
    }
    assert one.body["action"] == "order.processed"
    assert "id" not in one.body
    assert one.headers["X-Retry"] == "0"
    assert one.headers["X-Socket-Timeout"] == "22000"
    assert one.headers["User-Agent"] == "MercadoPago WebHook v1.0 order"
    assert one.headers["Content-Type"] == "application/json"
    assert signed_with(one, order["id"].lower())
    assert not signed_with(one, order["id"])
    entry = (await simulator.control("orders"))["deliveries"][order["id"]]
    assert entry == {
        "delivered": True,
        "delivered_version": 2,
        "version": 2,
        "notifications": 1,
        "attempts": 1,
        "dropped": 0,
    }


async def test_each_change_is_announced_as_its_event(simulator: Simulator, receiver: Receiver) -> None:
    stories: list[tuple[dict[str, Any], list[tuple[str, dict[str, Any]]], list[str]]] = [
        ({"type": "point"}, [("terminal", {}), ("action_required", {}), ("fail", {})], ["action_required", "failed"]),
        ({}, [("expire", {}), ("pay", {})], ["expired", "processed"]),
        ({}, [("cancel", {})], ["canceled"]),
        (
            {"status": "processed", "total_amount": "9.00", "notify": False},
            [("refund", {"amount": "1.00"}), ("refund", {"status": "failed"}), ("refund", {})],
            ["refunded", "refunded"],
        ),
        (
            {"type": "online", "status": "processed", "notify": False},
            [("chargeback", {}), ("chargeback", {"status": "settled"})],
            ["charged_back", "charged_back"],
        ),
        ({"type": "online"}, [("processing", {}), ("expire", {})], ["canceled"]),
    ]
    for spec, changes, events in stories:
        receiver.received.clear()
        order = await simulator.order(**spec)
        for name, body in changes:
            await simulator.control(f"orders/{order['id']}/{name}", body)
            await simulator.settled()
        assert receiver.actions() == [f"order.{event}" for event in events]
        versions = [one.body["data"]["version"] for one in receiver.received]
        assert versions == sorted(set(versions))


async def test_a_refund_in_processing_is_silent_until_it_ends(simulator: Simulator, receiver: Receiver) -> None:
    order = await simulator.order(status="processed", notify=False)
    path = f"orders/{order['id']}/refund"
    body = await simulator.control(path, {"status": "processing"})
    await simulator.settled()
    assert receiver.received == []
    refund_id = body["transactions"]["refunds"][0]["id"]
    ended = await simulator.control(path, {"refund_id": refund_id, "status": "processed"})
    await simulator.settled()
    assert (ended["status"], receiver.actions()) == ("refunded", ["order.refunded"])


async def test_notify_can_be_silenced_or_named(simulator: Simulator, receiver: Receiver) -> None:
    order = await simulator.order(notify="order.created")
    await simulator.control(f"orders/{order['id']}/pay", {"notify": False})
    await simulator.control(f"orders/{order['id']}/patch", {"merge": {"description": "x"}, "notify": "order.updated"})
    await simulator.settled()
    assert receiver.actions() == ["order.created", "order.updated"]


async def test_the_clock_expires_orders_and_sends_word(simulator: Simulator, receiver: Receiver) -> None:
    order = await simulator.order(expiration_time="PT30S")
    await simulator.control("clock", {"advance_seconds": 31})
    await simulator.settled()
    assert receiver.actions() == ["order.expired"]
    assert (await simulator.control(f"orders/{order['id']}"))["status"] == "expired"


async def test_orders_expire_without_anybody_looking(start: Start, receiver: Receiver) -> None:
    simulator = await start(webhook_url=receiver.url, speed=600)
    await simulator.order(expiration_time="PT30S")
    await receiver.has(1)
    assert receiver.actions() == ["order.expired"]


@pytest.mark.parametrize("answer", [202, 204, 302, 400, 401, 500, 503])
async def test_only_200_and_201_are_success(simulator: Simulator, receiver: Receiver, answer: int) -> None:
    receiver.answers.extend([answer, answer, 201])
    order = await simulator.order(status="processed")
    await simulator.settled()
    assert [one.headers["X-Retry"] for one in receiver.received] == ["0", "1", "2"]
    assert len({one.text for one in receiver.received}) == 1
    assert len({one.headers["X-Request-Id"] for one in receiver.received}) == 1
    assert all(signed_with(one, order["id"].lower()) for one in receiver.received)
    log = (await simulator.control(f"notifications?order_id={order['id']}"))["data"]
    assert [(one["outcome"], one["status"]) for one in log] == [
        ("refused", answer),
        ("refused", answer),
        ("delivered", 201),
    ]
    assert (await simulator.control("orders"))["deliveries"][order["id"]]["delivered"] is True


async def test_it_gives_up_after_eight_deliveries(start: Start, receiver: Receiver) -> None:
    simulator = await start(webhook_url=receiver.url, time_compression=10_000_000)
    receiver.answers.extend([500] * 20)
    order = await simulator.order(status="processed")
    await simulator.settled()
    assert [one.headers["X-Retry"] for one in receiver.received] == [str(n) for n in range(8)]
    assert (await simulator.control("orders"))["deliveries"][order["id"]]["delivered"] is False


async def test_the_ladder_follows_the_simulated_clock(start: Start, receiver: Receiver) -> None:
    simulator = await start(webhook_url=receiver.url, speed=0)
    receiver.answers.extend([500] * 20)
    await simulator.order(status="processed")
    quarter, hour = 15 * 60, 3600
    for attempt, wait in enumerate([quarter, 2 * quarter, 6 * hour, 48 * hour, 96 * hour, 96 * hour, 96 * hour]):
        assert (await simulator.control("idle?ignore_retries=1"))["retrying"] == 1
        await simulator.control("clock", {"advance_seconds": wait - 1})
        assert (await simulator.control("idle?ignore_retries=1"))["retrying"] == 1
        assert len(receiver.received) == attempt + 1
        await simulator.control("clock", {"advance_seconds": 1})
        await receiver.has(attempt + 2)
    await simulator.settled()
    assert len(receiver.received) == 8


async def test_slow_answers_time_out(start: Start, receiver: Receiver) -> None:
    simulator = await start(webhook_url=receiver.url, time_compression=1_000_000, timeout_compression=50)
    receiver.answers.extend(["hang", "hang"])
    order = await simulator.order(status="processed")
    await simulator.settled()
    log = (await simulator.control("notifications"))["data"]
    assert [one["outcome"] for one in log] == ["timeout", "timeout", "delivered"]
    assert log[0]["order_id"] == order["id"]


async def test_a_dead_receiver_is_a_connection_error(start: Start, unused_tcp_port: int) -> None:
    simulator = await start(webhook_url=f"http://127.0.0.1:{unused_tcp_port}/", time_compression=10_000_000)
    await simulator.order(status="processed")
    await simulator.settled()
    log = (await simulator.control("notifications"))["data"]
    assert [one["outcome"] for one in log] == ["connection_error"] * 8


async def test_nowhere_to_send_is_no_trouble(start: Start) -> None:
    simulator = await start()
    await simulator.order(status="processed")
    assert (await simulator.control("notifications"))["data"][0]["outcome"] == "no_webhook_url"


async def test_the_webhook_can_be_moved(simulator: Simulator, receiver: Receiver) -> None:
    told = await simulator.control("webhook", {"secret": "another", "url": receiver.url + "&v=2"})
    assert told == {"url": receiver.url + "&v=2", "signed": True}
    order = await simulator.order(status="processed")
    await simulator.settled()
    (one,) = receiver.received
    assert one.query["v"] == "2"
    assert signed_with(one, order["id"].lower(), secret="another")
    await simulator.control("webhook", {"secret": None})
    await simulator.order(status="processed")
    await simulator.settled()
    assert "X-Signature" not in receiver.received[1].headers


async def test_a_dropped_notification_is_lost_with_all_attempts(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.control("faults", {"notification": {"drop": 0.5}})
    for number in range(40):
        await simulator.order(status="processed", external_reference=f"s{number}")
    await simulator.settled()
    deliveries = (await simulator.control("orders"))["deliveries"]
    dropped = {order_id for order_id, entry in deliveries.items() if entry["dropped"]}
    assert 8 < len(dropped) < 32
    assert {order_id for order_id, entry in deliveries.items() if not entry["delivered"]} == dropped
    assert dropped.isdisjoint(one.query["data.id"] for one in receiver.received)


async def test_copies_travel_beside_each_other(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.control("faults", {"notification": {"duplicate": 1, "duplicate_gap_ms": 20}})
    for number in range(5):
        await simulator.order(status="processed", external_reference=f"s{number}")
    await simulator.settled()
    assert set(Counter(one.text for one in receiver.received).values()) == {2}
    assert len({one.headers["X-Request-Id"] for one in receiver.received}) == 10


async def test_a_held_notification_is_overtaken(simulator: Simulator, receiver: Receiver) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"notification": {"reorder": 1, "reorder_hold_ms": 60_000}})
    await simulator.control(f"orders/{order['id']}/pay", {})
    await simulator.control("faults", {"notification": {"reorder": 0}})
    await simulator.control(f"orders/{order['id']}/refund", {})
    await simulator.settled()
    assert receiver.actions() == ["order.refunded", "order.processed"]
    assert [one.body["data"]["version"] for one in receiver.received] == [3, 2]


async def test_what_nothing_overtakes_is_let_go(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.control("faults", {"notification": {"reorder": 1, "reorder_hold_ms": 20, "delay_ms": 30}})
    await simulator.order(status="processed")
    await simulator.settled()
    assert len(receiver.received) == 1


async def test_legacy_messages_mixed_in(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.control("faults", {"notification": {"legacy": 1}})
    await simulator.order(status="processed")
    await simulator.settled()
    (legacy,) = [one for one in receiver.received if "topic" in one.query]
    assert legacy.headers["User-Agent"] == "MercadoPago Feed v2.0 merchant_order"
    assert legacy.body["resource"].endswith(legacy.query["id"])
    assert not signed_with(legacy, legacy.query["id"])


@pytest.mark.parametrize("sign", ["verbatim", "wrong", "none", "ms", "no_request_id"])
async def test_signing_goes_wrong_as_told(simulator: Simulator, receiver: Receiver, sign: str) -> None:
    await simulator.control("faults", {"notification": {"sign": sign}})
    order = await simulator.order(status="processed")
    await simulator.settled()
    (one,) = receiver.received
    if sign == "none":
        assert "X-Signature" not in one.headers
    elif sign == "no_request_id":
        assert "X-Request-Id" not in one.headers
        assert signed_with(one, order["id"].lower(), request_id=False)
    else:
        data_id = order["id"] if sign == "verbatim" else order["id"].lower()
        assert signed_with(one, data_id) is (sign != "wrong")
        digits = len(one.headers["X-Signature"].split(",")[0]) - len("ts=")
        assert digits == (13 if sign == "ms" else 10)


async def test_signing_by_shares(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.control("faults", {"notification": {"sign": {"wrong": 0.3, "none": 0.3}}})
    for number in range(60):
        await simulator.order(status="processed", external_reference=f"s{number}")
    await simulator.settled()
    log = (await simulator.control("notifications"))["data"]
    assert set(Counter(one["sign"] for one in log)) == {"wrong", "none", "lowercase"}
    unsigned = sum("X-Signature" not in one.headers for one in receiver.received)
    assert unsigned == Counter(one["sign"] for one in log)["none"]


async def test_signed_times_can_lie_in_the_future(start: Start, receiver: Receiver) -> None:
    simulator = await start(webhook_url=receiver.url, webhook_secret=SECRET, speed=0)
    await simulator.control("clock", {"set": "2026-09-14T14:02:42.167Z"})
    await simulator.control("faults", {"notification": {"clock_skew_seconds": 26}})
    await simulator.order(status="processed")
    await simulator.settled()
    assert receiver.received[0].headers["X-Signature"].startswith(f"ts={1789394562 + 26},")


async def test_the_signed_request_is_the_captured_one(start: Start, receiver: Receiver, captured: Any) -> None:
    vectors = captured("notifications/signature-vectors.json")
    simulator = await start(webhook_url=receiver.url, webhook_secret=vectors["secret"], speed=0)
    await simulator.control("clock", {"set": "2026-09-14T14:02:42.167Z"})
    body = captured("notifications/order.processed.qr.json")
    sent = {
        "kind": "raw",
        "query": {"data.id": vectors["data_id_query"], "type": "order"},
        "body": body,
        "wait": True,
    }
    answer = await simulator.control("notify", sent)
    assert (answer["outcome"], answer["status"]) == ("delivered", 200)
    (one,) = receiver.received
    assert one.body == body
    assert one.headers["X-Signature"].startswith(f"ts={vectors['ts_seconds']},v1=")
    assert signed_with(one, vectors["data_id_query"].lower())


async def test_notifications_on_demand(simulator: Simulator, receiver: Receiver, captured: Any) -> None:
    order = await simulator.order(status="processed", notify=False)
    sent: list[dict[str, Any]] = [
        {"order_id": order["id"], "body_id": "ORD0", "action": "order.refunded", "version": 9},
        {"order_id": "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"},
        {"kind": "feed", "topic": "payment", "id": "118000000101"},
        {"kind": "panel"},
        {"kind": "webhook", "topic": "payment", "action": "payment.updated", "id": 118000000101},
        {"kind": "raw", "query": {}, "text": "not json", "headers": {"Content-Type": "text/plain"}, "sign": "none"},
        {"order_id": order["id"], "sign": "wrong"},
    ]
    for one in sent:
        assert (await simulator.control("notify", one | {"wait": True}))["status"] == 200
    known, unknown, feed, panel, payment, raw, wrong = receiver.received
    assert (known.query["data.id"], known.body["data"]["id"]) == (order["id"], "ORD0")
    assert (known.body["action"], known.body["data"]["version"]) == ("order.refunded", 9)
    assert signed_with(known, order["id"].lower())
    assert unknown.query["data.id"] == unknown.body["data"]["id"] == "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
    assert (feed.query, feed.body) == (
        {"client": "7", "topic": "payment", "id": "118000000101"},
        captured("notifications/payment.ipn.json"),
    )
    assert panel.body == captured("notifications/panel-simulation.json")
    assert signed_with(panel, "123456")
    assert payment.query["type"] == "payment"
    assert payment.body.keys() == captured("notifications/payment.updated.webhook.json").keys()
    assert (raw.text, raw.headers["Content-Type"]) == ("not json", "text/plain")
    assert not signed_with(wrong, order["id"].lower())
    status = await simulator.control("notify", {"order_id": order["id"]}, 202)
    assert status.keys() == {"notification"}


async def test_on_demand_is_tried_once_unless_told(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answers.extend([500, 500, 500])
    assert (await simulator.control("notify", {"kind": "panel", "wait": True}))["outcome"] == "refused"
    answer = await simulator.control("notify", {"kind": "panel", "wait": True, "retry": True})
    assert answer["outcome"] == "delivered"
    assert len(receiver.received) == 4


async def test_idle_says_when_it_is_not(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answers.append("hang")
    await simulator.order(status="processed")
    busy = await simulator.control("idle?timeout_seconds=0.05", None, 504)
    assert busy["idle"] is False
    assert busy["queued"] + busy["running"] == 1
    assert await simulator.control("settle?timeout_seconds=x", {}, 400)


async def test_many_deliveries_share_few_slots(start: Start, receiver: Receiver) -> None:
    simulator = await start(webhook_url=receiver.url, delivery_concurrency=2)
    receiver.answers.extend(["hang", "hang"])
    for _ in range(10):
        await simulator.order(status="processed")
    await receiver.has(2)
    busy = await simulator.control("idle?timeout_seconds=0.05", None, 504)
    assert busy == {"idle": False, "queued": 8, "running": 2, "retrying": 0}
    receiver.over.set()
    await simulator.settled()
    assert len(receiver.received) == 10


async def test_who_hears_what_is_decided_by_the_seed(start: Start, receiver: Receiver) -> None:
    heard = []
    for backwards in (False, True):
        receiver.received.clear()
        simulator = await start(webhook_url=receiver.url, seed=9)
        faults = {"drop": 0.3, "duplicate": 0.3, "duplicate_gap_ms": 5, "sign": {"none": 0.5}}
        await simulator.control("faults", {"notification": faults})
        numbers = range(40)[:: -1 if backwards else 1]
        specs = [{"external_reference": f"s{n}", "status": "processed"} for n in numbers]
        await asyncio.gather(*(simulator.order(**spec) for spec in specs))
        await simulator.settled()
        references = Counter(one.query["data.external_reference"] for one in receiver.received)
        log = (await simulator.control("notifications"))["data"]
        heard.append((references, Counter((one["sign"], one["outcome"], one["duplicate"]) for one in log)))
    assert heard[0] == heard[1]
    assert set(heard[0][0].values()) == {1, 2}


async def test_a_planted_order_is_announced_by_what_it_says(
    simulator: Simulator, receiver: Receiver, captured: Any
) -> None:
    raw = captured("order-processed-qr.json")
    assert await simulator.control("orders", {"raw": raw}) == raw
    await simulator.settled()
    expected, (one,) = captured("notifications/order.processed.qr.json"), receiver.received
    said = one.body
    expected["data"]["version"] = said["data"]["version"]
    expected["date_created"] = said["date_created"]
    assert said == expected
    changed = await simulator.control(f"orders/{raw['id']}/patch", {"raw": {"id": "ORD0", "status": "created"}})
    assert changed == {"id": "ORD0", "status": "created"}
    assert json.loads(json.dumps(await simulator.control(f"orders/{raw['id']}"))) == changed
