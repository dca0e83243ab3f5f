"""Every way the API can be told to misbehave, as a client sees it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from service.simulator.server import WORLD

Simulator = Any
Start = Callable[..., Awaitable[Simulator]]
TOKEN = {"Authorization": "Bearer APP_USR-simulator"}


async def fetch(simulator: Simulator, order_id: str) -> tuple[int, bytes, Any]:
    async with simulator.client.get(f"/v1/orders/{order_id}", headers=TOKEN) as response:
        return response.status, await response.read(), response.headers


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 429, 500, 503])
async def test_a_status_comes_in_its_own_envelope(simulator: Simulator, status: int) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"status": status, "count": 1}})
    got, text, _ = await fetch(simulator, order["id"])
    body = json.loads(text)
    assert got == status
    assert {401: "code", 403: "blocked_by"}.get(status, "errors") in body
    assert (await fetch(simulator, order["id"]))[0] == 200


async def test_retry_after_in_seconds_or_as_date(simulator: Simulator) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"status": 429, "retry_after": 7}})
    assert (await fetch(simulator, order["id"]))[2]["Retry-After"] == "7"
    await simulator.control("faults", {"get_order": {"status": 429, "retry_after_date": 60}})
    headers = (await fetch(simulator, order["id"]))[2]
    wait = parsedate_to_datetime(headers["Retry-After"]) - parsedate_to_datetime(headers["Date"])
    assert wait.total_seconds() == 60


async def test_a_redirect_names_a_place(simulator: Simulator) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"status": 302}})
    url = f"/v1/orders/{order['id']}"
    async with simulator.client.get(url, headers=TOKEN, allow_redirects=False) as response:
        assert (response.status, "Location" in response.headers) == (302, True)


@pytest.mark.parametrize("kind", ["garbage", "html", "empty", "truncated"])
async def test_bodies_that_are_no_json(simulator: Simulator, kind: str) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"body": kind}})
    status, text, headers = await fetch(simulator, order["id"])
    assert status == 200
    with pytest.raises(ValueError, match=r".*"):
        json.loads(text)
    assert headers["Content-Type"].startswith("text/html" if kind == "html" else "application/json")


async def test_json_that_is_no_order_of_ours(simulator: Simulator) -> None:
    order, other = await simulator.order(), await simulator.order()
    await simulator.control("faults", {"get_order": {"body": "array"}})
    assert json.loads((await fetch(simulator, order["id"]))[1]) == []
    await simulator.control("faults", {"get_order": {"body": "foreign"}})
    assert json.loads((await fetch(simulator, order["id"]))[1]) == other
    assert json.loads((await fetch(simulator, other["id"]))[1]) == order


async def test_a_lone_order_is_answered_with_a_made_up_foreign_one(simulator: Simulator) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"body": "foreign"}})
    assert json.loads((await fetch(simulator, order["id"]))[1])["id"] != order["id"]


async def test_a_stale_answer_is_the_one_before_the_last_change(simulator: Simulator) -> None:
    order = await simulator.order()
    paid = await simulator.control(f"orders/{order['id']}/pay", {})
    await simulator.control("faults", {"get_order": {"body": "stale", "count": 1}})
    assert json.loads((await fetch(simulator, order["id"]))[1]) == order
    assert json.loads((await fetch(simulator, order["id"]))[1]) == paid


async def test_an_oversized_answer_is_as_large_as_told(simulator: Simulator) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"body": "oversized", "size_bytes": 3_000_000}})
    text = (await fetch(simulator, order["id"]))[1]
    assert len(text) > 3_000_000
    assert json.loads(text)["id"] == order["id"]


@pytest.mark.parametrize("kind", ["disconnect", "cut"])
async def test_the_connection_breaks(simulator: Simulator, kind: str) -> None:
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"body": kind}})
    with pytest.raises(aiohttp.ClientError):
        await fetch(simulator, order["id"])
    await simulator.control("faults", {})
    assert (await fetch(simulator, order["id"]))[0] == 200


async def test_a_hanging_call_answers_nothing(start: Start) -> None:
    simulator = await start(hang_seconds=60)
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"body": "hang"}})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await fetch(simulator, order["id"])


async def test_a_hanging_call_is_cut_off_in_the_end(start: Start) -> None:
    simulator = await start(hang_seconds=0.05)
    order = await simulator.order()
    await simulator.control("faults", {"get_order": {"body": "hang"}})
    with pytest.raises(aiohttp.ClientError):
        await fetch(simulator, order["id"])
    log = await simulator.control("requests")
    assert (log["data"][-1]["status"], log["data"][-1]["fault"]) == (None, "hang")


async def test_a_lost_answer_after_the_effect(simulator: Simulator) -> None:
    order = await simulator.order(status="processed")
    fault = {"status": 500, "when": "after", "count": 1}
    await simulator.control("faults", {"refund": fault})
    headers = {"X-Idempotency-Key": "k"}
    path = f"/v1/orders/{order['id']}/refund"
    assert (await simulator.api("POST", path, headers=headers))[0] == 500
    assert (await simulator.control(f"orders/{order['id']}"))["status"] == "refunded"
    status, answer = await simulator.api("POST", path, headers=headers)
    assert (status, len(answer["transactions"]["refunds"])) == (201, 1)


async def test_a_refusal_before_the_effect(simulator: Simulator) -> None:
    order = await simulator.order(status="processed")
    await simulator.control("faults", {"refund": {"status": 409, "code": "post_processing_operation_pending"}})
    status, body = await simulator.api("POST", f"/v1/orders/{order['id']}/refund", headers={"X-Idempotency-Key": "k"})
    assert (status, body["errors"][0]["code"]) == (409, "post_processing_operation_pending")
    assert await simulator.control(f"orders/{order['id']}") == order


async def test_the_webhook_overtakes_the_answer(simulator: Simulator, receiver: Any) -> None:
    order = await simulator.order(status="processed", notify=False)
    await simulator.control("faults", {"refund": {"latency_ms": 2000}})
    headers = {"X-Idempotency-Key": "k"}
    answer = asyncio.create_task(simulator.api("POST", f"/v1/orders/{order['id']}/refund", headers=headers))
    await receiver.has(1)
    assert not answer.done()
    assert (await answer)[0] == 201


async def test_a_key_in_use_is_locked(simulator: Simulator, captured: Any) -> None:
    world = simulator.client.app[WORLD]
    world.idempotency.begin("2100457788", "k", b"/v1/orders\n{}", world.clock.now())
    answer = await simulator.api("POST", "/v1/orders", json={}, headers={"X-Idempotency-Key": "k"})
    assert answer == (423, captured("errors/423-resource_locked.json"))


async def test_the_share_of_hit_calls_follows_the_seed_not_the_timing(start: Start) -> None:
    hit = []
    for backwards in (False, True):
        simulator = await start(seed=3)
        orders = [await simulator.order(external_reference=f"s{n}") for n in range(30)]
        await simulator.control("faults", {"get_order": {"status": 500, "rate": 0.3}})
        answers = await asyncio.gather(*(fetch(simulator, order["id"]) for order in orders[:: -1 if backwards else 1]))
        hit.append(sorted(i for i, (status, _, _) in enumerate(answers[:: -1 if backwards else 1]) if status == 500))
    assert hit[0] == hit[1]
    assert 0 < len(hit[0]) < 30
