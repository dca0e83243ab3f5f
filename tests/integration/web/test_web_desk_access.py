"""Who may command and how fast, what is no command at all, and that nothing of it is written down or logged."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.database.pool import Database
from service.telemetry.metrics import REGISTRY
from service.web.keys import KeyRing
from tests.integration.web.desk_port import CARD, MONEY, QR, READ, RING, SALE, DeskPort, api_key, desk_port
from tests.support.waiting import until

ORDER = f"ORD{'0' * 26}"
COMMAND = f"CMD{'0' * 26}"
COMMANDS: list[tuple[str, str, Any]] = [
    ("POST", "/api/v1/orders", {"order": QR}),
    ("POST", f"/api/v1/orders/{ORDER}/cancel", {}),
    ("POST", f"/api/v1/orders/{ORDER}/refunds", {"amount": "1.00"}),
    ("POST", f"/api/v1/commands/{COMMAND}/withdraw", None),
    ("POST", "/api/v1/legacy-qr/CAJA01", {"order": json.loads(SALE)}),
    ("DELETE", "/api/v1/legacy-qr/CAJA01", None),
]
READING = ["/api/v1/commands", f"/api/v1/commands/{COMMAND}", "/api/v1/points-of-sale"]


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[DeskPort]:
    """Commands are written down here, and nothing sends them."""
    async with desk_port(database, carries_out=False) as port:
        yield port


async def test_commands_need_the_scope_money(desk: DeskPort) -> None:
    for method, path, body in COMMANDS:
        for who, status, code in (
            (None, 401, "unauthenticated"),
            ("wrong", 401, "unauthenticated"),
            (READ, 403, "scope_missing"),
        ):
            answer = await desk.call(method, path, body, key="k", who=who)
            assert (answer.status, answer.error["code"]) == (status, code), path
    for path in READING:
        assert (await desk.call("GET", path, who=None)).status == 401
        assert (await desk.call("GET", path, who=READ)).status in {200, 404}
    assert await desk.commands() == 0


async def test_a_port_that_is_open_to_all_moves_no_money_without_a_key(desk: DeskPort) -> None:
    desk.keys = KeyRing(RING.keys, open_to_all=True)
    for method, path, body in COMMANDS:
        for who in (None, "wrong"):
            answer = await desk.call(method, path, body, key="k", who=who)
            assert (answer.status, answer.error["code"]) == (401, "unauthenticated"), path
            assert "commands need a key" in answer.error["message"]
            assert "CUADRE_API_KEYS_FILE" in answer.error["message"]
        assert (await desk.call(method, path, body, key="k", who=READ)).status == 403
    assert await desk.commands() == 0
    for path in READING:
        assert (await desk.call("GET", path, who=None)).status in {200, 404}
    assert (await desk.call("POST", f"/api/v1/orders/{ORDER}/sync", who=READ)).status == 202
    answer = await desk.create(params={"wait_seconds": "0"})
    assert (answer.status, answer.command["asked_by"]) == (202, MONEY)


async def test_a_key_that_commands_too_fast_is_stopped_before_anything_is_written(desk: DeskPort) -> None:
    slow, other = "slow-key", "other-key"
    desk.keys = KeyRing((api_key(slow, "money", per_second=0.01), api_key(other, "money", per_second=0.01)))
    first = await desk.create(key="k-1", who=slow, params={"wait_seconds": "0"})
    assert first.status == 202
    before = REGISTRY.get_sample_value(
        "cuadre_http_requests_total", {"app": "internal", "route": "/api/v1/orders", "status": "429"}
    )
    for key in ("k-1", "k-2"):
        refused = await desk.create(key=key, who=slow)
        assert (refused.status, refused.error["code"]) == (429, "too_many_commands")
        assert int(refused.headers["Retry-After"]) in range(1, 101)
    after = REGISTRY.get_sample_value(
        "cuadre_http_requests_total", {"app": "internal", "route": "/api/v1/orders", "status": "429"}
    )
    assert after is not None
    assert after - (before or 0) == 2
    assert await desk.commands() == 1
    assert (await desk.create(key="k-2", who=other, params={"wait_seconds": "0"})).status == 202


async def test_a_process_without_a_desk_takes_no_commands_and_shows_what_there_is(database: Database) -> None:
    async with desk_port(database, desk=False) as port:
        for method, path, body in COMMANDS:
            answer = await port.call(method, path, body, key="k")
            assert (answer.status, answer.error["code"]) == (503, "desk_unavailable"), path
            assert answer.headers["Retry-After"].isdigit()
        assert (await port.call("GET", "/api/v1/commands")).body == {"data": [], "next_cursor": None}


async def test_every_fault_of_an_order_is_told_at_once_by_its_path(desk: DeskPort) -> None:
    order = {"type": "qr", "total_amount": 100, "external_reference": "a b", "transactions": {"payments": []}}
    answer = await desk.create(order)
    assert answer.status == 400
    fields = set(answer.details())
    assert {"order.total_amount", "order.external_reference", "order.config"} <= fields
    assert any(field.startswith("order.transactions.payments") for field in fields)
    assert await desk.commands() == 0


@pytest.mark.parametrize(
    ("path", "body", "key", "fields"),
    [
        ("/api/v1/orders", {"order": QR}, None, {"Idempotency-Key"}),
        ("/api/v1/orders", {"order": QR}, "with blank", {"Idempotency-Key"}),
        ("/api/v1/orders", {"order": QR}, "x" * 129, {"Idempotency-Key"}),
        ("/api/v1/orders", {"order": QR}, "ñ", {"Idempotency-Key"}),
        ("/api/v1/orders", {}, "k", {"order"}),
        ("/api/v1/orders", None, "k", {"order"}),
        ("/api/v1/orders", "[]", "k", {"body"}),
        ("/api/v1/orders", "{", "k", {"body"}),
        ("/api/v1/orders", '{"order": {}, "order": {}}', "k", {"body"}),
        ("/api/v1/orders?wait_seconds=31", {"a": 1}, None, {"wait_seconds", "Idempotency-Key", "order", "a"}),
        ("/api/v1/orders?wait_seconds=1.5&x=1", {"order": QR}, "k", {"wait_seconds", "x"}),
        (f"/api/v1/orders/{ORDER}/cancel", {"reason": "x"}, "k", {"reason"}),
        (f"/api/v1/orders/{ORDER}/refunds", {"amount": 5}, "k", {"amount"}),
        (f"/api/v1/orders/{ORDER}/refunds", {"amount": None}, "k", {"amount"}),
        (f"/api/v1/orders/{ORDER}/refunds", {"amount": "1.00", "payment_id": None}, "k", {"payment_id"}),
        (f"/api/v1/orders/{ORDER}/refunds", None, "k", {"body"}),
        ("/api/v1/orders/PAY1/refunds", {}, "k", {"order_id"}),
        ("/api/v1/orders/MO123/cancel", {}, "k", {"order_id"}),
        ("/api/v1/legacy-qr/CAJA01", {"order": {}, "ttl_seconds": "9"}, "k", {"ttl_seconds"}),
        ("/api/v1/legacy-qr/CAJ%C3%91", {"order": {}}, "k", {"external_pos_id"}),
        ("/api/v1/commands/CMD1/withdraw", None, None, {"command_id"}),
    ],
)  # fmt: skip
async def test_what_is_no_command_is_400_and_names_every_fault(
    desk: DeskPort, path: str, body: Any, key: str | None, fields: set[str]
) -> None:
    answer = await desk.call("POST", path, body, key=key)
    assert (answer.status, answer.error["code"]) == (400, "bad_parameters"), answer
    assert set(answer.details()) == fields
    assert await desk.commands() == 0


async def test_bodies_are_json_plain_and_small(desk: DeskPort) -> None:
    text = json.dumps({"order": QR})
    for headers in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}):
        answer = await desk.call("POST", "/api/v1/orders", text, key="k", headers=headers)
        assert answer.status == 400, headers
    fits = text + " " * (64 * 1024 - len(text))
    assert (await desk.call("POST", "/api/v1/orders?wait_seconds=0", fits, key="k")).status == 202
    answer = await desk.call("POST", "/api/v1/orders", fits + " ", key="k-2")
    assert (answer.status, answer.error["code"]) == (413, "payload_too_large")
    for twice in ('{"order": {"type": "qr", "type": "qr"}}', '{"order": {"total_amount": NaN}}'):
        answer = await desk.call("POST", "/api/v1/orders", twice, key="k-3")
        assert (answer.status, set(answer.details())) == (400, {"body"})
    assert await desk.commands() == 1


async def test_accounts_are_named_or_the_usual_one(desk: DeskPort) -> None:
    answer = await desk.call("POST", "/api/v1/orders", {"order": QR, "account": "nobody"}, key="k")
    assert (answer.status, answer.error["code"]) == (404, "unknown_account")
    answer = await desk.call("DELETE", "/api/v1/legacy-qr/CAJA01?account=nobody", key="k")
    assert (answer.status, answer.error["code"]) == (404, "unknown_account")
    answer = await desk.call("POST", "/api/v1/orders?wait_seconds=0", {"order": QR, "account": "default"}, key="k")
    assert (answer.status, answer.command["account"]) == (202, "default")


async def test_what_was_never_sent_can_be_withdrawn_once_and_for_all(desk: DeskPort) -> None:
    asked = await desk.create(params={"wait_seconds": "0"})
    assert (asked.status, asked.command["status"], asked.command["maybe_sent_at"]) == (202, "waiting", None)
    path = f"/api/v1/commands/{asked.command['command_id']}/withdraw"
    first = await desk.call("POST", path)
    assert (first.status, first.command["status"]) == (200, "withdrawn")
    assert (await desk.call("POST", path)).body == first.body
    again = await desk.create(params={"wait_seconds": "0"})
    assert (again.status, again.error["code"]) == (409, "withdrawn")
    answer = await desk.call("POST", f"/api/v1/commands/{COMMAND}/withdraw")
    assert (answer.status, answer.error["code"]) == (404, "unknown_command")


async def test_what_may_have_been_sent_cannot_be_withdrawn(desk: DeskPort, database: Database) -> None:
    asked = await desk.create(params={"wait_seconds": "0"})
    await database.execute("update cuadre.commands set maybe_sent_at = now(), status = 'unknown'")
    answer = await desk.call("POST", f"/api/v1/commands/{asked.command['command_id']}/withdraw")
    assert (answer.status, answer.error["code"]) == (409, "already_sent")
    assert answer.error["message"]


async def test_commands_are_listed_by_what_one_looks_for(desk: DeskPort, database: Database) -> None:
    ids: list[str] = []
    for number in range(5):
        order = QR | {"external_reference": f"sale-{number}"}
        answer = await desk.create(order, key=f"k-{number}", params={"wait_seconds": "0"})
        ids.insert(0, answer.command["command_id"])
    await database.execute(
        "update cuadre.commands set status = 'done', settled_at = now(), order_id = $2 where command_id = $1",
        ids[1],
        ORDER,
    )
    seen: list[str] = []
    query = "?limit=2"
    while query:
        page = (await desk.call("GET", f"/api/v1/commands{query}")).body
        seen += [one["command_id"] for one in page["data"]]
        query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert seen == ids
    for query, found in (
        ("status=waiting", [ids[0], *ids[2:]]),
        ("status=done", [ids[1]]),
        ("kind=create", ids),
        ("kind=refund", []),
        (f"order_id={ORDER}", [ids[1]]),
        ("account=other", []),
        ("account=default&status=waiting&kind=create&limit=1", ids[:1]),
    ):
        page = (await desk.call("GET", f"/api/v1/commands?{query}", who=READ)).body
        assert [one["command_id"] for one in page["data"]] == found, query
    for query in ("cursor=x", "cursor=o1.A", "limit=0", "what=1", "status=unknwon", "kind=refnud"):
        assert (await desk.call("GET", f"/api/v1/commands?{query}")).status == 400
    answer = await desk.call("GET", f"/api/v1/commands/{COMMAND}")
    assert (answer.status, answer.error["code"]) == (404, "unknown_command")


async def test_no_body_is_logged_and_no_error_tells_who_pays(desk: DeskPort) -> None:
    marked = json.loads(json.dumps(CARD).replace("buyer@example.test", "marked@example.test"))
    wrong = marked | {"total_amount": "marked-amount", "marked-member": 1}
    with capture_logs() as logs:
        answers = [
            await desk.create(marked, key="k-1", params={"wait_seconds": "0"}),
            await desk.create(wrong, key="k-2"),
            await desk.call("POST", "/api/v1/orders", json.dumps({"order": marked})[:-1], key="k-3"),
            await desk.create(marked | {"external_reference": "web-2"}, key="k-1"),
        ]
    assert [answer.status for answer in answers] == [202, 400, 400, 409]
    told = json.dumps([answer.body for answer in answers])
    for text in (told, json.dumps(logs, default=str)):
        assert "marked@" not in text
        assert "marked-amount" not in text
        assert "card-token-1" not in text
    (asked,) = [line for line in logs if line["event"] == "command_asked"]
    assert (asked["key_name"], asked["kind"]) == (MONEY, "create")


async def test_a_caller_who_hangs_up_has_written_its_intent_down_all_the_same(desk: DeskPort) -> None:
    task = asyncio.create_task(desk.create())
    await until(desk.commands, what="the intent is written down")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await desk.create(params={"wait_seconds": "0"})
    assert again.status == 202
    assert await desk.commands() == 1
