"""The public port on a real socket and a real Postgres: the contract's table of answers, and what is stored."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from service.database.pool import Database
from service.mercadopago.account import Account
from tests.support.public_port import ORDER, SECRET, public_port, signature

NOTIFICATIONS = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "notifications"
QUERY = {"data.id": ORDER, "type": "order"}
BODY = json.dumps({"action": "order.processed", "type": "order", "data": {"id": ORDER, "version": 2}}).encode()


async def rows(database: Database) -> list[Any]:
    return list(await database.fetch("select * from cuadre.notifications order by id"))


async def marks(database: Database) -> list[Any]:
    return list(await database.fetch("select *, due_at <= now() as due from cuadre.sync order by order_id"))


async def test_a_signed_notification_is_committed_and_its_order_is_due(database: Database) -> None:
    async with public_port(database) as port:
        assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")
    (row,) = await rows(database)
    assert (row["account"], row["topic"], row["action"], row["resource_id"]) == (
        "default",
        "order",
        "order.processed",
        ORDER,
    )
    assert (row["verified"], row["verification"], row["manifest"], row["secret_index"]) == (True, "valid", "lower", 0)
    assert abs(row["ts_age_seconds"]) < 30
    assert (row["copies"], row["refused"], row["body_id_differs"]) == (1, False, False)
    assert json.loads(row["body"]) == json.loads(BODY)
    assert json.loads(row["query"]) == QUERY
    assert json.loads(row["headers"])["x-request-id"] == "r-1"
    (mark,) = await marks(database)
    assert (mark["order_id"], mark["requested"], mark["fetched"], mark["trust"], mark["due"]) == (ORDER, 1, 0, 1, True)
    assert mark["notification_id"] == row["id"]


async def test_the_published_request_is_verified(database: Database) -> None:
    head, body = (NOTIFICATIONS / "order.processed.qr.http").read_bytes().split(b"\n\n", 1)
    lines = head.decode().splitlines()
    target = lines[0].split(" ")[1]
    headers = dict(line.split(": ", 1) for line in lines[1:] if not line.startswith(("Host", "Content-Length")))
    secret = json.loads((NOTIFICATIONS / "signature-vectors.json").read_text())["secret"]
    async with public_port(database, Account("default", webhook_secrets=("other", secret))) as port:
        query = target.partition("?")[2]
        assert await port.post(body.strip(), path=f"/webhooks/mercadopago?{query}", headers=headers) == (
            200,
            "recorded",
        )
    (row,) = await rows(database)
    assert (row["verification"], row["manifest"], row["secret_index"]) == ("valid", "lower", 1)


async def test_copies_are_one_row_and_every_delivery_is_a_mark(database: Database) -> None:
    async with public_port(database) as port:
        for _ in range(3):
            assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")
        many = [port.post(BODY, query=QUERY, headers=signature(ORDER)) for _ in range(20)]
        assert set(await asyncio.gather(*many)) == {(200, "recorded")}
    (row,) = await rows(database)
    assert row["copies"] == 23
    assert (await marks(database))[0]["requested"] == 23


async def test_an_unverified_copy_shares_no_row_with_a_verified_one_whichever_comes_first(database: Database) -> None:
    # Invariant I8: a forged notification takes no dedupe key.
    forged = signature(ORDER, secret="forged")
    async with public_port(database) as port:
        assert await port.post(BODY, query=QUERY, headers=forged) == (200, "recorded")
        assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")
        assert await port.post(BODY, query=QUERY, headers=forged) == (200, "recorded")
    stored = [(row["verified"], row["verification"], row["copies"]) for row in await rows(database)]
    assert stored == [(False, "mismatch", 2), (True, "valid", 1)]
    (mark,) = await marks(database)
    assert (mark["requested"], mark["requested_trusted"], mark["trust"]) == (3, 2, 1)


async def test_a_stranger_is_marked_apart_and_a_verified_word_makes_it_known(database: Database) -> None:
    async with public_port(database) as port:
        await port.post(BODY, query=QUERY)
        assert [(mark["trust"], mark["due"]) for mark in await marks(database)] == [(0, True)]
        await port.post(BODY, query=QUERY, headers=signature(ORDER))
        assert [(mark["trust"], mark["due"]) for mark in await marks(database)] == [(1, True)]


async def test_unverified_marks_bring_a_look_forward_once_a_second_only(database: Database) -> None:
    async with public_port(database) as port:
        await port.post(BODY, query=QUERY, headers=signature(ORDER))
        await database.execute(
            "update cuadre.sync set trust = 2, fetched = requested, claimed_at = now(), due_at = now() + interval '1 h'"
        )
        await port.post(BODY, query=QUERY)
        wait = await database.fetchval("select extract(epoch from due_at - claimed_at) from cuadre.sync")
        assert float(wait) == pytest.approx(1.0)
        await port.post(BODY, query=QUERY, headers=signature(ORDER))
        assert (await marks(database))[0]["due"]


@pytest.mark.parametrize(
    ("body", "query", "headers", "expected"),
    [
        (b"{", QUERY, {}, (400, "malformed")),
        (b"NaN", QUERY, {}, (400, "malformed")),
        (b"[" * 50_000, QUERY, {}, (400, "malformed")),
        (b"\xff\xfe", QUERY, {}, (400, "malformed")),
        (b"{}", {}, {}, (400, "malformed")),
        (b"", {}, {}, (400, "malformed")),
        (b"{}", {"data.id": "x" * 65, "type": "order"}, {}, (400, "malformed")),
        (b"{}", {"data.id": "ORD/../../users/me", "type": "order"}, {}, (400, "malformed")),
        (b"{}", {"data.id": "ORD\u0661", "type": "order"}, {}, (400, "malformed")),
        (b"{}", QUERY, {"Content-Encoding": "gzip"}, (400, "malformed")),
        (b"x" * (64 * 1024 + 1), QUERY, {}, (413, "oversized")),
        (b"x" * (64 * 1024 + 1), QUERY, {"Content-Encoding": "gzip"}, (413, "oversized")),
        (b"", QUERY, {}, (200, "recorded")),
        (b"{}", {"topic": "payment", "id": "118000000101"}, {}, (200, "recorded")),
        (b'{"type":"payment"}', {}, {}, (200, "recorded")),
        (b"[]", QUERY, {}, (200, "recorded")),
        (b'{"a":"\\u0000\\ud800"}', QUERY, {}, (200, "recorded")),
        (b'{"n":1e999999}', QUERY, {}, (200, "recorded")),
        (b"{}", QUERY, {"X-Signature": "ts=1,v1=" + "é" * 64}, (200, "recorded")),
        (b"{}", QUERY, {"X-Signature": "=" * 7000}, (200, "recorded")),
    ],
)  # fmt: skip
async def test_the_table_of_answers(
    database: Database, body: bytes, query: dict[str, str], headers: dict[str, str], expected: tuple[int, str]
) -> None:
    async with public_port(database) as port:
        assert await port.post(body, query=query, headers=headers) == expected
    assert len(await rows(database)) == (1 if expected[0] == 200 else 0)


async def test_answers_are_decided_in_the_contracts_order(database: Database) -> None:
    strict = Account("estricta", webhook_secrets=(SECRET,), signature_policy="required")
    async with public_port(database, strict) as port:
        oversized = b"x" * (64 * 1024 + 1)
        assert await port.post(oversized, path="/webhooks/mercadopago/nadie") == (404, "unknown_account")
        assert await port.post(oversized, path="/webhooks/mercadopago/estricta") == (413, "oversized")
        assert await port.post(b"{", path="/webhooks/mercadopago/estricta", query=QUERY) == (400, "malformed")
        assert await port.post(BODY, path="/webhooks/mercadopago/estricta", query=QUERY) == (401, "refused")
        # Nobody's: no account of that user, and none is called `default`.
        assert await port.post(BODY, query=QUERY) == (404, "unknown_account")
        assert await port.post(b"", path="/webhooks", query=QUERY) == (404, "not_found")
        async with port.session.get(port.url + "/healthz") as response:
            assert response.status == 404


async def test_required_refuses_and_keeps_a_sample_that_marks_nothing(database: Database) -> None:
    async with public_port(
        database, Account("default", webhook_secrets=(SECRET,), signature_policy="required")
    ) as port:
        for _ in range(4):
            assert await port.post(BODY, query=QUERY, headers=signature(ORDER, secret="no")) == (401, "refused")
        assert await marks(database) == []
        (sample,) = await rows(database)
        assert (sample["refused"], sample["copies"], sample["verification"]) == (True, 1, "mismatch")
        assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")


async def test_off_does_not_look(database: Database) -> None:
    async with public_port(database, Account("default", webhook_secrets=(SECRET,), signature_policy="off")) as port:
        assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")
    (row,) = await rows(database)
    assert (row["verified"], row["verification"]) == (False, "not_checked")


async def test_routing_by_path_then_user_and_application(database: Database) -> None:
    accounts = (
        Account("norte", user_id="1", application_ids=("10",)),
        Account("norte-dos", user_id="1", application_ids=("20",)),
        Account("sur", user_id="2", application_ids=("30",)),
        Account("default"),
    )

    def body(**fields: object) -> bytes:
        return json.dumps({"type": "order", "data": {"id": ORDER}} | fields).encode()

    async with public_port(database, *accounts) as port:
        cases = [
            (body(user_id="2"), "/webhooks/mercadopago/norte", "norte"),
            (body(user_id=1, application_id="20"), "/webhooks/mercadopago", "norte-dos"),
            (body(user_id="1", application_id="99"), "/webhooks/mercadopago", "norte"),
            (body(user_id="7", application_id=30), "/webhooks/mercadopago", "sur"),
            (body(user_id="7"), "/webhooks/mercadopago", "default"),
        ]
        for payload, path, _ in cases:
            assert await port.post(payload, path=path) == (200, "recorded")
    assert [row["account"] for row in await rows(database)] == [account for _, _, account in cases]


async def test_the_signed_id_is_the_one_acted_on(database: Database) -> None:
    other = "ORD01M2G0BBZHYA10EB3FR3NJDNWZ"
    body = json.dumps({"type": "order", "action": "order.processed", "data": {"id": other}}).encode()
    async with public_port(database) as port:
        assert await port.post(body, query=QUERY, headers=signature(ORDER)) == (200, "recorded")
    (row,) = await rows(database)
    assert (row["resource_id"], row["body_id_differs"]) == (ORDER, True)
    assert [mark["order_id"] for mark in await marks(database)] == [ORDER]


async def test_only_order_ids_of_the_order_topic_are_marked(database: Database) -> None:
    async with public_port(database) as port:
        for query, body in [
            ({"data.id": "123456", "type": "order"}, (NOTIFICATIONS / "panel-simulation.json").read_bytes()),
            (
                {"topic": "merchant_order", "id": "36678900123"},
                (NOTIFICATIONS / "merchant_order.feed-v2.json").read_bytes(),
            ),
            ({}, (NOTIFICATIONS / "payment.ipn.json").read_bytes()),
            ({}, (NOTIFICATIONS / "mp-connect.deauthorized.json").read_bytes()),
            ({"data.id": ORDER, "type": "payment"}, b"{}"),
            ({"data.id": "ORDX", "type": "order"}, b"{}"),
        ]:
            assert await port.post(body, query=query) == (200, "recorded")
    assert await marks(database) == []
    stored = await rows(database)
    assert len(stored) == 6
    assert stored[0]["simulation"] is True


async def test_every_documented_notification_is_recorded(database: Database) -> None:
    async with public_port(database) as port:
        for path in sorted(NOTIFICATIONS.glob("order.*.json")):
            body = json.loads(path.read_text())
            query = {"data.id": body["data"]["id"], "type": "order", "data.external_reference": "x"}
            headers = signature(body["data"]["id"])
            assert await port.post(path.read_bytes(), query=query, headers=headers) == (200, "recorded")
    assert all(row["verified"] and row["order_id"] for row in await rows(database))


async def test_not_committed_in_time_is_never_a_200(database: Database) -> None:
    # Invariant I1: the row is locked by somebody else for longer than the provider waits.
    async with public_port(database, ack_timeout_seconds=0.5) as port:
        await port.post(BODY, query=QUERY, headers=signature(ORDER))
        async with database.transaction() as connection:
            await connection.execute("select from cuadre.sync for update")
            assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (503, "unavailable")
        assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")


async def test_a_database_that_is_gone_is_a_503_and_it_recovers(database_dsn: str) -> None:
    nowhere = await Database.connect("postgresql://nobody@127.0.0.1:9/nothing")
    try:
        async with public_port(nowhere, ack_timeout_seconds=2.0) as port:
            assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (503, "unavailable")
    finally:
        await nowhere.close()
    there = await Database.connect(database_dsn)
    try:
        async with public_port(there) as port:
            assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")
    finally:
        await there.close()


async def test_raw_requests_that_no_client_library_sends(database: Database) -> None:
    """Bytes on the socket: whatever comes, the answer is the client's fault and the next request works."""
    async with public_port(database) as port:
        host, number = port.url.removeprefix("http://").split(":")

        async def send(text: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, int(number))
            writer.write(text)
            await writer.drain()
            if not text.endswith(b"\r\n\r\n"):
                writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            head, _, said = answer.partition(b"\r\n\r\n")
            return head[9:12] + b" " + str(json.loads(said)["status"]).encode()

        start = (
            b"POST /webhooks/mercadopago?type=order&data.id="
            + ORDER.encode()
            + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        )
        assert await send(start + b"X-Signature: a\r\nX-Signature: b\r\nContent-Length: 0\r\n\r\n") == b"200 recorded"
        assert await send(start + b"X-Signature: \xff\xfe\r\nContent-Length: 0\r\n\r\n") == b"200 recorded"
        assert await send(start + b"X-Huge: " + b"h" * 20_000 + b"\r\n\r\n") == b"400 malformed"
        assert await send(start + b"Content-Length: -5\r\n\r\n") == b"400 malformed"
        assert await send(b"NONSENSE\r\n\r\n") == b"400 malformed"
        assert await port.post(BODY, query=QUERY, headers=signature(ORDER)) == (200, "recorded")
