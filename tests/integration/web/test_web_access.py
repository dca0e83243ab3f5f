"""Who may ask what, and what a refusal looks like. Every refusal has the same envelope and tells nothing inside."""

import hashlib
import json
from dataclasses import replace

import asyncpg
import pytest
from yarl import URL

from service.database.pool import Database
from service.telemetry.metrics import REGISTRY
from service.web.keys import ApiKey, KeyRing
from service.web.state import STATE
from tests.integration.web.internal_port import InternalPort
from tests.integration.web.web_rows import order_id, put_order

READ, OPERATE, MONEY = "read-key", "operate-key", "money-key"
RING = KeyRing(
    (
        ApiKey("dashboards", hashlib.sha256(READ.encode()).hexdigest(), frozenset({"read"})),
        ApiKey("operators", hashlib.sha256(OPERATE.encode()).hexdigest(), frozenset({"read", "operate"})),
        ApiKey("tills", hashlib.sha256(MONEY.encode()).hexdigest(), frozenset({"read", "operate", "money"})),
    )
)
OPEN = ["/healthz", "/readyz", "/metrics"]
READING = [
    "/api/v1/orders",
    f"/api/v1/orders/{order_id(1)}",
    f"/api/v1/orders/{order_id(1)}/timeline",
    "/api/v1/discrepancies",
    "/api/v1/notifications",
    "/api/v1/notifications/1",
    "/api/v1/quarantine",
    "/openapi.json",
    "/docs",
]
OPERATING = [f"/api/v1/orders/{order_id(1)}/sync"]


@pytest.mark.parametrize(
    ("authorization", "reads", "operates"),
    [
        (None, 401, 401),
        ("", 401, 401),
        ("Bearer", 401, 401),
        ("Bearer ", 401, 401),
        ("Bearer wrong", 401, 401),
        (f"Basic {READ}", 401, 401),
        (READ, 401, 401),
        (f"Bearer {hashlib.sha256(READ.encode()).hexdigest()}", 401, 401),
        (f"Bearer {READ}", 200, 403),
        (f"bearer  {OPERATE}", 200, 202),
        (f"Bearer {MONEY}", 200, 202),
    ],
)
async def test_keys_and_scopes(port: InternalPort, authorization: str | None, reads: int, operates: int) -> None:
    port.keys = RING
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in OPEN:
        async with port.client.get(path, headers=headers) as answer:
            assert answer.status == 200
    for path in READING:
        async with port.client.get(path, headers=headers) as answer:
            # What is not stored is 404 to whoever may read, and 401 to whoever may not know that.
            assert answer.status == reads or (reads == 200 and answer.status == 404)
            if answer.status == 401:
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert (await answer.json())["error"]["code"] == "unauthenticated"
    for path in OPERATING:
        async with port.client.post(path, headers=headers) as answer:
            assert answer.status == operates
    async with port.client.get("/nowhere", headers=headers) as answer:
        assert answer.status == (404 if reads == 200 else 401)


async def test_without_keys_everything_but_health_and_metrics_is_closed(port: InternalPort) -> None:
    port.keys = KeyRing()
    for path in OPEN:
        async with port.client.get(path) as answer:
            assert answer.status == 200
        async with port.client.post(path) as answer:
            assert answer.status == 401
    for path in [*READING, "/", "/healthz/", "/metrics/x", "/api/v1/../../healthz/.."]:
        async with port.client.get(path) as answer:
            assert answer.status == 401, path


async def test_a_new_key_counts_at_once_and_an_old_one_no_longer(port: InternalPort) -> None:
    headers = {"Authorization": f"Bearer {READ}"}
    port.keys = RING
    async with port.client.get("/api/v1/orders", headers=headers) as answer:
        assert answer.status == 200
    port.keys = KeyRing(RING.keys[1:])
    async with port.client.get("/api/v1/orders", headers=headers) as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/v1/orders?limit=0", ["limit"]),
        ("/api/v1/orders?limit=201", ["limit"]),
        ("/api/v1/orders?limit=1.0", ["limit"]),
        ("/api/v1/orders?limit=%2B1", ["limit"]),
        ("/api/v1/orders?limit=", ["limit"]),
        ("/api/v1/orders?limit=1&limit=2", ["limit"]),
        ("/api/v1/orders?limits=1", ["limits"]),
        ("/api/v1/orders?limit=x&updated_since=yesterday&cursor=*&what=", ["what", "limit", "cursor", "updated_since"]),
        ("/api/v1/orders?status=%00", ["status"]),
        ("/api/v1/orders?status=a%00b&account=%00", ["account", "status"]),
        (f"/api/v1/orders?status={'x' * 256}", ["status"]),
        ("/api/v1/orders?updated_since=2026-09-14", ["updated_since"]),
        ("/api/v1/orders?updated_since=2026-09-14T12:00:00", ["updated_since"]),
        ("/api/v1/orders?updated_since=1789000000", ["updated_since"]),
        ("/api/v1/orders?updated_since=0001-01-01T00:00:00%2B14:00", ["updated_since"]),
        ("/api/v1/orders?cursor=AAAA", ["cursor"]),
        ("/api/v1/orders?cursor=", ["cursor"]),
        ("/api/v1/orders?cursor=n1", ["cursor"]),
        ("/api/v1/orders?cursor=o1.A%0A", ["cursor"]),
        ("/api/v1/discrepancies?cursor=n1", ["cursor"]),
        ("/api/v1/notifications?cursor=n9999999999999999999", ["cursor"]),
        ("/api/v1/quarantine?cursor=qnone.A", ["cursor"]),
        ("/api/v1/notifications?verified=yes", ["verified"]),
        ("/api/v1/orders/%00", ["order_id"]),
        ("/api/v1/orders/a%0A", ["order_id"]),
        (f"/api/v1/orders/{'x' * 65}", ["order_id"]),
        ("/api/v1/orders/%F0%9F%92%B8", ["order_id"]),
        (f"/api/v1/orders/{order_id(1)}?as_of=now", ["as_of"]),
        ("/api/v1/notifications/%00", ["id"]),
        ("/api/v1/notifications/1?x=1", ["x"]),
        ("/docs?x=1", ["x"]),
    ],
)
async def test_bad_parameters_are_400_and_named(port: InternalPort, path: str, fields: list[str]) -> None:
    status, error = await port.refused(URL(path, encoded=True))
    assert (status, error["code"]) == (400, "bad_parameters")
    assert sorted(one["field"] for one in error["details"]) == sorted(fields)
    assert all(one["message"] for one in error["details"])


async def test_text_that_is_no_unicode_is_no_500(port: InternalPort) -> None:
    for path in ("/api/v1/orders?status=%FF", "/api/v1/orders?status=%ED%A0%80", "/api/v1/orders/%FF", "/%FF?%FF=%FF"):
        async with port.client.get(URL(path, encoded=True)) as answer:
            assert answer.status < 500, path
            assert (await answer.json()).keys() in ({"error"}, {"data", "next_cursor"})


async def test_a_lost_plus_sign_is_forgiven(port: InternalPort, database: Database) -> None:
    await put_order(database, 1)
    page = await port.get("/api/v1/orders", updated_since="2026-09-14T12:00:00 00:00")
    assert len(page["data"]) == 1


async def test_unknown_paths_and_methods_keep_the_envelope(port: InternalPort) -> None:
    assert (await port.refused("/nothing"))[0] == 404
    assert (await port.refused("/api/v1/orders/"))[0] == 404
    async with port.client.delete("/api/v1/orders") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
        assert (await answer.json())["error"]["code"] == "method_not_allowed"
    async with port.client.get(f"/api/v1/orders/{order_id(1)}/sync") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_a_database_that_is_not_there_is_503_with_a_hint(port: InternalPort, database: Database) -> None:
    await database.close()
    for path in READING[:7]:
        async with port.client.get(path) as answer:
            assert answer.status == 503, path
            assert answer.headers["Retry-After"].isdigit()
            assert (await answer.json())["error"]["code"] == "database_unavailable"
    async with port.client.get("/readyz") as answer:
        assert answer.status == 503
    async with port.client.get("/healthz") as answer:
        assert answer.status == 200


async def test_a_mistake_of_ours_is_500_and_leaks_nothing(port: InternalPort, database: Database) -> None:
    await database.execute("alter table cuadre.orders rename column description to secret_column")
    async with port.client.get("/api/v1/orders") as answer:
        assert answer.status == 500
        body = await answer.text()
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert "column" not in body
    assert "select" not in body


async def test_requests_are_counted_by_pattern_never_by_path(port: InternalPort) -> None:
    def count(route: str, status: int) -> float:
        labels = {"app": "internal", "route": route, "status": str(status)}
        return REGISTRY.get_sample_value("cuadre_http_requests_total", labels) or 0.0

    pattern, before = "/api/v1/orders/{order_id}", {}
    for route, status in ((pattern, 404), (pattern, 400), ("unmatched", 404), ("unmatched", 405)):
        before[route, status] = count(route, status)
    await port.refused(f"/api/v1/orders/{order_id(8)}")
    await port.refused(f"/api/v1/orders/{order_id(9)}")
    await port.refused("/api/v1/orders/a.b")
    await port.refused("/some/raw/path")
    await port.refused("/healthz", method="PUT")
    grown = {key: count(*key) - value for key, value in before.items()}
    assert grown == {(pattern, 404): 2, (pattern, 400): 1, ("unmatched", 404): 1, ("unmatched", 405): 1}
    async with port.client.get("/metrics") as answer:
        assert "raw/path" not in await answer.text()


async def test_mark_due_without_a_database_is_503(port: InternalPort, database: Database) -> None:
    async def fails(order_id: str, account: str) -> None:
        raise asyncpg.TooManyConnectionsError

    app = port.client.app
    assert app is not None
    state = app[STATE]
    app._state[STATE] = replace(state, mark_due=fails)
    async with port.client.post(f"/api/v1/orders/{order_id(1)}/sync") as answer:
        assert answer.status == 503
