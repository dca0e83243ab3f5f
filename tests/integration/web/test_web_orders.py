"""Orders over the API: the list, its pages, one order now and as it was, and the wish for a fresh look."""

import json
import random
from decimal import Decimal
from typing import Any

from service.database.pool import Database
from tests.integration.web.internal_port import InternalPort
from tests.integration.web.web_rows import (
    at,
    insert,
    order_id,
    put_discrepancy,
    put_fetch,
    put_order,
    put_quarantined,
    put_version,
    text,
)


async def test_list_shows_newest_change_first_with_exact_amounts(port: InternalPort, database: Database) -> None:
    await put_order(database, 1, total_amount=Decimal("0.001"))
    await put_order(database, 2, total_amount=Decimal("1E+3"), account="second", status="processed")
    page = await port.get("/api/v1/orders")
    assert [row["order_id"] for row in page["data"]] == [order_id(2), order_id(1)]
    assert [row["total_amount"] for row in page["data"]] == ["1000", "0.001"]
    assert page["data"][0]["currency"] == "ARS"
    assert page["data"][0]["updated_at"] == "2026-09-14T12:00:02Z"
    assert page["next_cursor"] is None
    assert "payload" not in page["data"][0]


async def test_every_filter_narrows_the_list(port: InternalPort, database: Database) -> None:
    await put_order(database, 1)
    await put_order(database, 2, account="second")
    await put_order(database, 3, status="processed")
    await put_order(database, 4, type="point")
    await put_order(database, 5, external_reference="ref-1", account="second")

    async def numbers(**params: str) -> list[int]:
        page = await port.get("/api/v1/orders", **params)
        return [int(row["order_id"].removeprefix("ORD")) for row in page["data"]]

    assert await numbers(account="second") == [5, 2]
    assert await numbers(status="processed") == [3]
    assert await numbers(type="point") == [4]
    assert await numbers(external_reference="ref-1") == [5, 1]
    assert await numbers(external_reference="ref-1", account="default") == [1]
    assert await numbers(external_reference="ref-9") == []
    assert await numbers(updated_since=text(at(4))) == [5, 4]
    assert await numbers(updated_since="2026-09-14T09:00:05-03:00") == [5]
    assert await numbers(account="", status="", type="", external_reference="") == [5, 4, 3, 2, 1]


async def test_pages_are_the_whole_list_whatever_their_size(port: InternalPort, database: Database) -> None:
    """Orders of one time, and orders that were never dated, are where pages would lose or repeat rows."""
    chance = random.Random(20261105)
    for number in range(40):
        updated = None if chance.random() < 0.2 else at(chance.randrange(8))
        await put_order(database, number, updated_at=updated, account=chance.choice(["default", "second"]))
    for params in ({}, {"account": "second"}, {"updated_since": text(at(2))}):
        whole = (await port.get("/api/v1/orders", limit=200, **params))["data"]
        for limit in (1, 2, 3, 7, 39, 40):
            assert await port.page_through("/api/v1/orders", limit=limit, **params) == whole
    rows = await database.fetch("select order_id from cuadre.orders order by updated_at desc, order_id desc")
    everything = await port.page_through("/api/v1/orders", limit=9)
    assert [row["order_id"] for row in everything] == [row["order_id"] for row in rows]


async def test_rows_that_come_in_between_pages_disturb_nothing(port: InternalPort, database: Database) -> None:
    for number in range(10):
        await put_order(database, number, updated_at=at(number // 3))
    before = (await port.get("/api/v1/orders"))["data"]
    first = await port.get("/api/v1/orders", limit=4)
    await put_order(database, 99, updated_at=at(1000))
    await put_order(database, 98, updated_at=None)
    rest = await port.page_through("/api/v1/orders", limit=4, cursor=first["next_cursor"])
    assert first["data"] + rest == before


async def test_one_order_with_everything_that_hangs_on_it(port: InternalPort, database: Database) -> None:
    name = await put_order(
        database, 1, payload='{"id": "x", "n": 12345678901234567890.120, "u": "\\u00f1"}', external_reference="ñ"
    )
    seen: dict[str, Any] = {"order_id": name, "first_seen_at": at(1)}
    await insert(database, "payments", **seen, payment_id="PAY2", position=1, amount=Decimal("47.28"), currency="ARS")
    await insert(database, "payments", **seen, payment_id="PAY1", position=0, vanished_at=at(5), installments=3)
    await insert(database, "refunds", **seen, refund_id="REF1", position=0, payment_id="PAY2", amount=Decimal("1.10"))
    await insert(database, "chargebacks", **seen, chargeback_id="CHB1", position=0, case_id="c")
    await insert(database, "cash_outs", **seen, cash_out_id="CSH1", position=0, amount=Decimal(5))
    await insert(database, "sync", order_id=name, account="default", requested=7, fetched=6, due_at=at(9), trust=2)
    await put_discrepancy(database, 1)
    await put_discrepancy(database, 1, rule="refund_failed", resolved_at=at(8))

    detail = await port.get(f"/api/v1/orders/{name}")

    assert [one["payment_id"] for one in detail["payments"]] == ["PAY1", "PAY2"]
    assert detail["payments"][0]["vanished_at"] == text(at(5))
    assert detail["payments"][1]["amount"] == "47.28"
    assert detail["refunds"][0]["amount"] == "1.10"
    assert detail["chargebacks"][0]["case_id"] == "c"
    assert detail["cash_outs"][0]["amount"] == "5"
    assert [one["rule"] for one in detail["discrepancies"]] == ["refunds_exceed_paid"]
    assert detail["discrepancies"][0]["amount_at_stake"] == "2.50"
    assert (detail["sync"]["requested"], detail["sync"]["fetched"]) == (7, 6)
    assert "lease_token" not in detail["sync"]
    assert detail["external_reference"] == "ñ"
    async with port.client.get(f"/api/v1/orders/{name}") as answer:
        assert '"n": 12345678901234567890.120' in await answer.text()


async def test_an_order_that_is_not_stored_is_404_and_says_so(port: InternalPort, database: Database) -> None:
    await put_quarantined(database, 2)
    status, error = await port.refused(f"/api/v1/orders/{order_id(1)}")
    assert (status, error["code"]) == (404, "not_found")
    status, error = await port.refused(f"/api/v1/orders/{order_id(2)}")
    assert status == 404
    assert "timeline" in error["message"]


def _body(status: str, *payments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = {
        "id": order_id(1),
        "type": "qr",
        "status": status,
        "currency": "ARS",
        "total_amount": "100.00",
        "external_reference": f"while {status}",
        "created_date": "2026-09-14T12:00:00Z",
    }
    return body | fields | {"transactions": {"payments": list(payments)}}


async def test_as_of_shows_what_was_stored_here_at_that_time(port: InternalPort, database: Database) -> None:
    open_payment = {"id": "PAY1", "amount": "100.00", "status": "created"}
    paid_payment = open_payment | {"status": "processed", "paid_amount": "100.00"}
    other = {"id": "PAY2", "amount": "1.00", "status": "failed"}
    versions = [
        (1, 10, _body("created", open_payment, other)),
        (2, 20, _body("processed", paid_payment)),
        (3, 30, _body("refunded", paid_payment)),
    ]
    for version, seconds, body in versions:
        await put_version(
            database,
            1,
            version,
            body,
            observed_at=at(seconds),
            paid_amount=Decimal(version),
            updated_at=at(seconds - 5),
        )
    name = await put_order(
        database,
        1,
        status="refunded",
        version=3,
        payload=json.dumps(versions[2][2]),
        first_seen_at=at(10),
        changed_at=at(30),
    )
    seen: dict[str, Any] = {"order_id": name, "position": 0}
    await insert(database, "payments", **seen, payment_id="PAY1", first_seen_at=at(10), status="processed")
    await insert(
        database, "payments", **seen, payment_id="PAY2", first_seen_at=at(10), status="failed", vanished_at=at(20)
    )
    await put_fetch(database, 1, claimed_at=at(24), settled_at=at(25), outcome="unchanged")
    await put_fetch(database, 1, claimed_at=at(26), settled_at=at(27), outcome="timeout")
    await put_discrepancy(database, 1, opened_at=at(10), resolved_at=at(20))
    await put_discrepancy(database, 1, opened_at=at(20), rule="refund_failed")

    status, error = await port.refused(f"/api/v1/orders/{name}", as_of=text(at(9.999999)))
    assert (status, error["code"]) == (404, "not_stored_then")

    first = await port.get(f"/api/v1/orders/{name}", as_of=text(at(10)))
    assert (first["version"], first["status"], first["paid_amount"]) == (1, "created", "1")
    assert first["external_reference"] == "while created"
    assert first["payload"] == versions[0][2]
    assert [(one["payment_id"], one["status"], one["vanished_at"]) for one in first["payments"]] == [
        ("PAY1", "created", None),
        ("PAY2", "failed", None),
    ]
    assert first["payments"][0]["first_seen_at"] == text(at(10))
    assert [one["rule"] for one in first["discrepancies"]] == ["refunds_exceed_paid"]
    assert first["as_of"] == text(at(10))
    assert first["sync"] is None

    second = await port.get(f"/api/v1/orders/{name}", as_of=text(at(29)))
    assert (second["version"], second["status"], second["updated_at"]) == (2, "processed", text(at(15)))
    assert second["fetched_at"] == text(at(25))
    assert [(one["payment_id"], one["vanished_at"]) for one in second["payments"]] == [
        ("PAY1", None),
        ("PAY2", text(at(20))),
    ]
    assert [one["rule"] for one in second["discrepancies"]] == ["refund_failed"]

    last = await port.get(f"/api/v1/orders/{name}", as_of="2030-01-01T00:00:00+00:00")
    assert last["version"] == 3
    now = await port.get(f"/api/v1/orders/{name}")
    assert now["as_of"] is None
    assert now["version"] == 3


async def test_as_of_after_retention_dropped_a_month(port: InternalPort, database: Database) -> None:
    body = _body("processed", {"id": "PAY1", "amount": "100.00", "status": "processed"})
    name = await put_order(
        database,
        1,
        status="processed",
        version=2,
        payload=json.dumps(body),
        paid_amount=Decimal("100.00"),
        first_seen_at=at(10),
        changed_at=at(20),
        fetched_at=at(50),
    )
    await insert(database, "payments", order_id=name, position=0, payment_id="PAY1", first_seen_at=at(10))
    await put_fetch(database, 1, claimed_at=at(29), settled_at=at(30), outcome="unchanged")

    async def refusal(seconds: float) -> tuple[int, str, str]:
        status, error = await port.refused(f"/api/v1/orders/{name}", as_of=text(at(seconds)))
        return status, error["code"], error["message"]

    # All versions are gone: since its last change the order is still known to have been as it is.
    then = await port.get(f"/api/v1/orders/{name}", as_of=text(at(40)))
    assert (then["version"], then["status"], then["paid_amount"]) == (2, "processed", "100.00")
    assert (then["changed_at"], then["fetched_at"], then["as_of"]) == (text(at(20)), text(at(30)), text(at(40)))
    assert then["payload"] == body
    assert [one["payment_id"] for one in then["payments"]] == ["PAY1"]
    assert (await port.get(f"/api/v1/orders/{name}", as_of=text(at(20))))["fetched_at"] == text(at(20))
    # Before that it was stored in a way that nobody knows any more; and before that not at all.
    for seconds in (10, 19.999999):
        status, code, message = await refusal(seconds)
        assert (status, code) == (404, "no_longer_known")
        assert "no longer kept" in message
    assert (await refusal(9.999999))[:2] == (404, "not_stored_then")
    # With the last version kept, the months before it are gone all the same.
    await put_version(database, 1, 2, body, observed_at=at(20))
    assert (await refusal(19))[1] == "no_longer_known"
    assert (await port.get(f"/api/v1/orders/{name}", as_of=text(at(40))))["version"] == 2


async def test_sync_marks_stored_and_unknown_orders_due(port: InternalPort, database: Database) -> None:
    stored = await put_order(database, 1, account="second")

    async def sync(name: str, **params: str) -> tuple[int, Any]:
        async with port.client.post(f"/api/v1/orders/{name}/sync", params=params) as answer:
            return answer.status, await answer.json()

    assert await sync(stored) == (202, {"order_id": stored, "account": "second", "status": "due"})
    assert (await sync(stored, account="default"))[1]["account"] == "second"
    assert (await sync(order_id(2)))[1]["account"] == "default"
    assert (await sync(order_id(3), account="second"))[0] == 202
    assert port.marked == [(stored, "second"), (stored, "second"), (order_id(2), "default"), (order_id(3), "second")]
    assert (await sync(order_id(4), account="nobody"))[0] == 404
    assert (await sync("NOTANORDER"))[0] == 400
    assert (await sync("ORD12345"))[0] == 400
    assert len(port.marked) == 4
