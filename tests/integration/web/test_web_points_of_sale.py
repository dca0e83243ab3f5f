"""What is live on each point of sale, and that the cancel it names does cancel; the legacy QR from put to delete."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.database.pool import Database
from service.mercadopago.account import Account
from tests.integration.web.desk_port import POINT, QR, READ, SALE, TERMINAL, USER_ID, DeskPort, desk_port
from tests.integration.web.web_rows import insert

PUT = "/api/v1/legacy-qr/CAJA01"


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[DeskPort]:
    async with desk_port(database) as port:
        yield port


async def live(desk: DeskPort, query: str = "") -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What is live, by account and point of sale."""
    answer = await desk.call("GET", f"/api/v1/points-of-sale{query}", who=READ)
    assert answer.status == 200, answer
    assert answer.body["truncated"] is False
    places = {(one["account"], one["point_of_sale"]): one["live"] for one in answer.body["data"]}
    assert all(sale["cancelable"] == (sale["cancel"] is not None) for sales in places.values() for sale in sales)
    assert all(sale["cancelable"] == (sale["not_cancelable"] is None) for sales in places.values() for sale in sales)
    return places


async def follow(desk: DeskPort, sale: dict[str, Any], key: str) -> int:
    """Does what the view says cancels the sale."""
    answer = await desk.call(sale["cancel"]["method"], sale["cancel"]["path"], key=key)
    return answer.status


async def test_open_orders_show_where_they_can_be_paid_until_they_are_canceled(desk: DeskPort) -> None:
    assert await live(desk) == {}
    qr, point = await desk.created(), await desk.created(POINT, key="k-point")
    places = await live(desk)
    assert places.keys() == {("default", "CAJA01"), ("default", TERMINAL)}
    (sale,) = places["default", "CAJA01"]
    assert (sale["what"], sale["order_id"], sale["status"], sale["type"]) == ("order", qr, "created", "qr")
    assert (sale["amount"], sale["currency"], sale["external_reference"]) == ("100.00", "ARS", "sale-1")
    assert 0 <= sale["age_seconds"] < 600
    assert sale["cancel"] == {"method": "POST", "path": f"/api/v1/orders/{qr}/cancel"}
    (terminal,) = places["default", TERMINAL]
    assert (terminal["order_id"], terminal["amount"]) == (point, "100.00")
    assert await follow(desk, sale, "k-c1") == 200
    assert await follow(desk, terminal, "k-c2") == 200
    await desk.stored(qr, "canceled")
    await desk.stored(point, "canceled")
    assert await live(desk) == {}


async def test_a_paid_order_is_not_live(desk: DeskPort) -> None:
    order_id = await desk.created()
    await desk.pay(order_id)
    assert await live(desk) == {}


async def test_an_order_whose_payment_is_under_way_is_not_to_be_canceled(desk: DeskPort, database: Database) -> None:
    order_id = await desk.created()
    for column, value, words in (
        ("status", "action_required", "look at the device"),
        ("status", "created", None),
        ("expires_at", "2026-01-01T00:00:00Z", "its time is over"),
    ):
        await database.execute(f"update cuadre.orders set {column} = '{value}' where order_id = $1", order_id)
        (sale,) = (await live(desk))["default", "CAJA01"]
        assert (sale["not_cancelable"] is None) == (words is None)
        assert words is None or words in sale["not_cancelable"]


async def test_what_is_on_its_way_shows_too_and_only_what_never_left_can_be_taken_back(database: Database) -> None:
    async with desk_port(database, carries_out=False) as desk:
        asked = await desk.create(params={"wait_seconds": "0"})
        (sale,) = (await live(desk))["default", "CAJA01"]
        assert (sale["what"], sale["kind"], sale["status"]) == ("command", "create", "waiting")
        assert sale["command_id"] == asked.command["command_id"]
        await database.execute("update cuadre.commands set status = 'unknown', maybe_sent_at = now()")
        (unknown,) = (await live(desk))["default", "CAJA01"]
        assert (unknown["status"], unknown["cancel"]) == ("unknown", None)
        assert "may have reached" in unknown["not_cancelable"]
        await database.execute("update cuadre.commands set status = 'waiting', maybe_sent_at = null")
        assert await follow(desk, sale, "k-w") == 200
        assert await live(desk) == {}


async def test_an_order_that_is_being_canceled_says_so(database: Database) -> None:
    async with desk_port(database) as desk:
        order_id = await desk.created()
        await desk.runner.stop(within_seconds=5)
        path = f"/api/v1/orders/{order_id}/cancel?wait_seconds=0"
        command = (await desk.call("POST", path, key="k-cancel")).command
        sales = {sale["what"]: sale for sale in (await live(desk))["default", "CAJA01"]}
        assert command["command_id"] in sales["order"]["not_cancelable"]
        assert sales["command"]["cancel"]["path"] == f"/api/v1/commands/{command['command_id']}/withdraw"


async def test_a_legacy_sale_is_put_shown_and_deleted(desk: DeskPort) -> None:
    body = f'{{"order": {SALE}, "ttl_seconds": 180}}'
    put = await desk.call("POST", PUT, body, key="k-put")
    assert put.status == 201, put
    assert (put.command["kind"], put.command["amount"], put.command["currency"]) == ("legacy_put", "75.30", "ARS")
    again = await desk.call("POST", PUT, body, key="k-put")
    assert (again.status, again.body) == (201, put.body)
    (there,) = (await desk.simulate("legacy"))["data"]
    assert (there["state"], there["external_pos_id"], there["generation"]) == ("live", "CAJA01", "v1")
    assert there["total_amount"] == 75.3
    (sale,) = (await live(desk))["default", "CAJA01"]
    assert (sale["what"], sale["type"], sale["status"]) == ("legacy_sale", "legacy_qr", "created")
    assert (sale["command_id"], sale["amount"]) == (put.command["command_id"], "75.30")
    assert sale["cancel"] == {"method": "DELETE", "path": f"{PUT}?account=default"}
    assert await follow(desk, sale, "k-delete") == 204
    assert await follow(desk, sale, "k-delete") == 204
    (there,) = (await desk.simulate("legacy"))["data"]
    assert there["state"] == "deleted"
    assert await live(desk) == {}


async def test_the_amounts_of_a_legacy_sale_reach_the_provider_as_they_were_written(desk: DeskPort) -> None:
    put = await desk.call("POST", PUT, f'{{"order": {SALE}}}', key="k-put")
    assert put.status == 201, put
    sent = await desk.database.fetchval("select body from cuadre.commands")
    assert '"unit_price":25.10' in sent


async def test_a_newer_legacy_sale_takes_the_place_of_the_older(desk: DeskPort) -> None:
    for number in (1, 2):
        body = f'{{"order": {SALE.replace("legacy-1", f"legacy-{number}")}}}'
        assert (await desk.call("POST", PUT, body, key=f"k-{number}")).status == 201
    (sale,) = (await live(desk))["default", "CAJA01"]
    assert sale["external_reference"] == "legacy-2"


async def test_a_legacy_sale_ends_with_its_time_and_with_its_payment(desk: DeskPort, database: Database) -> None:
    put = await desk.call("POST", PUT, f'{{"order": {SALE}}}', key="k-put")
    command_id = put.command["command_id"]
    paid: dict[str, Any] = {
        "order_id": "MO123", "account": "default", "type": "legacy_qr", "external_reference": "legacy-1",
        "status": "processed", "total_amount": 75, "paid_amount": 75, "payload": "{}", "payload_hash": b"",
        "version": 1,
    }  # fmt: skip
    times = ("claimed_at", "fetched_at", "first_seen_at", "changed_at")
    seen = await database.fetchval("select now()")
    await insert(database, "orders", **paid, **dict.fromkeys(times, seen))
    assert await live(desk) == {}
    await database.execute("update cuadre.orders set paid_amount = 0, status = 'created'")
    (sale,) = (await live(desk))["default", "CAJA01"]
    assert (sale["order_id"], sale["command_id"]) == ("MO123", command_id)
    await database.execute("update cuadre.commands set expires_at = now() - interval '1 second'")
    assert await live(desk) == {}


async def test_another_process_is_deleting_it(database: Database) -> None:
    async with desk_port(database) as desk:
        assert (await desk.call("POST", PUT, f'{{"order": {SALE}}}', key="k-put")).status == 201
        await desk.runner.stop(within_seconds=5)
        answer = await desk.call("DELETE", f"{PUT}?wait_seconds=0", key="k-delete")
        assert (answer.status, answer.command["kind"]) == (202, "legacy_delete")
        sales = {sale["what"]: sale for sale in (await live(desk))["default", "CAJA01"]}
        assert sales["legacy_sale"]["not_cancelable"] == "its deletion is on its way"


async def test_one_account_or_one_place_can_be_asked_for(database: Database) -> None:
    accounts = [
        Account(name, user_id=USER_ID, access_token="APP_USR-test", currency="ARS") for name in ("default", "second")
    ]
    async with desk_port(database, *accounts, carries_out=False) as desk:
        for account in ("default", "second"):
            for pos in ("CAJA01", "CAJA02"):
                order = json.loads(json.dumps(QR).replace("CAJA01", pos))
                body = {"account": account, "order": order}
                answer = await desk.call("POST", "/api/v1/orders?wait_seconds=0", body, key=f"k-{pos}")
                assert answer.status == 202, answer
        assert len(await live(desk)) == 4
        assert (await live(desk, "?account=second")).keys() == {("second", "CAJA01"), ("second", "CAJA02")}
        assert (await live(desk, "?account=second&point_of_sale=CAJA02")).keys() == {("second", "CAJA02")}
        assert await live(desk, "?account=nobody") == {}
