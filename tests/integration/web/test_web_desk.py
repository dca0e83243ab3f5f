"""A till's sale through the internal port: create, cancel, refund, and what a repeat of each is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.database.pool import Database
from tests.integration.web.desk_port import CARD, MONEY, POINT, QR, TERMINAL, DeskPort, desk_port
from tests.support.waiting import until


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[DeskPort]:
    async with desk_port(database) as port:
        yield port


async def test_an_order_is_created_and_a_repeat_is_the_same_answer(desk: DeskPort) -> None:
    first = await desk.create()
    assert first.status == 201, first
    (order,) = (await desk.simulate("orders"))["data"]
    assert first.body["order"] == order
    assert first.body["order"]["type_response"]["qr_data"]
    command = first.command
    assert (command["kind"], command["status"], command["asked_by"]) == ("create", "done", MONEY)
    assert (command["order_id"], command["point_of_sale"], command["amount"]) == (order["id"], "CAJA01", "100.00")
    assert "body" not in command
    await desk.stored(order["id"])
    again = await desk.create()
    assert (again.status, again.body) == (201, first.body)
    # The same request, written otherwise.
    text = (
        '{ "order": {"transactions": {"payments": [{"amount": "100.00"}]}, "config": {"qr": {"mode": "dynamic",'
        ' "external_pos_id": "CAJA01"}}, "external_reference": "sale-1", "total_amount": "100.00", "type": "qr"} }'
    )
    again = await desk.call("POST", "/api/v1/orders", text, key="k-create")
    assert (again.status, again.body) == (201, first.body)
    assert await desk.calls("create") == 1
    shown = await desk.call("GET", f"/api/v1/commands/{command['command_id']}")
    assert (shown.status, shown.body) == (200, {"command": command})


async def test_another_request_under_a_used_key_is_refused(desk: DeskPort) -> None:
    order_id = await desk.created()
    answer = await desk.create(QR | {"external_reference": "sale-2"})
    assert (answer.status, answer.error["code"]) == (409, "idempotency_key_reused")
    answer = await desk.call("POST", f"/api/v1/orders/{order_id}/cancel", key="k-create")
    assert (answer.status, answer.error["code"]) == (409, "idempotency_key_reused")
    assert await desk.commands() == 1


async def test_repeats_at_the_same_moment_are_one_order(desk: DeskPort) -> None:
    answers = await asyncio.gather(*(desk.create() for _ in range(6)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.command["command_id"] for answer in answers}) == 1
    assert len((await desk.simulate("orders"))["data"]) == 1


async def test_a_cancellation_is_done_once_a_look_shows_it(desk: DeskPort) -> None:
    order_id = await desk.created()
    first = await desk.call("POST", f"/api/v1/orders/{order_id}/cancel", {}, key="k-cancel")
    assert first.status == 200, first
    assert (first.command["kind"], first.command["status"]) == ("cancel", "done")
    assert (first.body["order"]["id"], first.body["order"]["status"]) == (order_id, "canceled")
    await desk.stored(order_id, "canceled")
    again = await desk.call("POST", f"/api/v1/orders/{order_id}/cancel", key="k-cancel")
    assert (again.status, again.body) == (200, first.body)
    another = await desk.call("POST", f"/api/v1/orders/{order_id}/cancel", key="k-cancel-2")
    assert another.status == 409
    assert another.error["message"]


async def test_what_was_created_a_moment_ago_can_be_canceled_before_any_look(database: Database) -> None:
    async with desk_port(database) as desk:
        await desk.simulate("faults", {"get_order": {"latency_ms": 400, "count": 1}})
        created = await desk.create()
        order_id = created.body["order"]["id"]
        answer = await desk.call("POST", f"/api/v1/orders/{order_id}/cancel", key="k-cancel")
        assert answer.status == 200, answer


async def test_an_order_nobody_knows_is_404(desk: DeskPort) -> None:
    for path in ("cancel", "refunds"):
        answer = await desk.call("POST", f"/api/v1/orders/ORD{'0' * 26}/{path}", {}, key="k")
        assert (answer.status, answer.error["code"]) == (404, "unknown_order")
    assert await desk.commands() == 0


async def test_a_refund_is_told_of_once_a_look_shows_it(desk: DeskPort) -> None:
    order_id = await desk.created()
    await desk.pay(order_id)
    path = f"/api/v1/orders/{order_id}/refunds"
    body = {"amount": "30.00"}
    first = await desk.call("POST", f"{path}?wait_seconds=0", body, key="k-refund")
    assert first.status == 202
    assert first.command["status"] in {"waiting", "sending", "accepted"}
    assert first.headers["Location"] == f"/api/v1/commands/{first.command['command_id']}"
    final = await desk.call("POST", f"{path}?wait_seconds=30", body, key="k-refund")
    assert final.status == 201, final
    (payment,) = await desk.database.fetch("select payment_id from cuadre.payments where order_id = $1", order_id)
    assert final.body["refunds"] == [
        {
            "refund_id": final.command["refund_ids"][0],
            "order_id": order_id,
            "payment_id": payment["payment_id"],
            "amount": "30.00",
            "currency": "ARS",
        }
    ]
    assert final.command["reserved"] == {payment["payment_id"]: "30.00"}
    again = await desk.call("POST", path, body, key="k-refund")
    assert (again.status, again.body) == (201, final.body)
    more = await desk.call("POST", path, {"payment_id": payment["payment_id"], "amount": "70.01"}, key="k-more")
    assert (more.status, more.error["code"]) == (409, "exceeds_left")
    rest = await desk.call("POST", f"{path}?wait_seconds=30", {}, key="k-rest")
    assert (rest.status, rest.command["amount"]) == (201, "70.00")
    await desk.stored(order_id, "refunded")
    assert await desk.calls("refund") == 2


async def test_two_equal_refunds_are_two_intents_and_never_beyond_what_is_paid(desk: DeskPort) -> None:
    order_id = await desk.created()
    await desk.pay(order_id)
    answers = await asyncio.gather(
        *(
            desk.call("POST", f"/api/v1/orders/{order_id}/refunds?wait_seconds=30", {"amount": "40.00"}, key=f"k-{n}")
            for n in range(4)
        )
    )
    assert sorted(answer.status for answer in answers) == [201, 201, 409, 409]
    ledger = await desk.simulate(f"orders/{order_id}")
    assert [refund["amount"] for refund in ledger["transactions"]["refunds"]] == ["40.00", "40.00"]


async def test_a_declined_card_is_402_with_the_order_that_exists(desk: DeskPort) -> None:
    await desk.simulate("rules", {"decline": "rejected_by_issuer"})
    first = await desk.create(CARD)
    assert first.status == 402, first
    assert first.error["code"] == "refused"
    assert first.error["message"]
    assert first.details()["provider_status"] == ["402"]
    (order,) = (await desk.simulate("orders"))["data"]
    assert first.body["order"] == order
    assert first.command["order_id"] == order["id"]
    await desk.stored(order["id"], "failed")
    again = await desk.create(CARD)
    assert (again.status, again.body) == (402, first.body)
    kept = await desk.database.fetchval("select body from cuadre.commands")
    assert "card-token-1" not in kept


async def test_what_the_provider_refuses_is_422_with_a_sentence_and_its_code(desk: DeskPort) -> None:
    await desk.simulate("rules", {"known_pos": ["CAJA09"]})
    static = QR | {"config": {"qr": {"external_pos_id": "CAJA01", "mode": "static"}}}
    first = await desk.create(static)
    assert first.status == 422, first
    assert first.error["code"] == "refused"
    assert first.error["message"]
    assert first.details() == {"provider_status": ["404"], "provider_code": ["pos_not_found"]}
    assert first.command["status"] == "refused"
    again = await desk.create(static)
    assert (again.status, again.body) == (422, first.body)
    assert await desk.calls("create") == 1


@pytest.mark.parametrize("spelling", ["on_terminal", "for_terminal", "for_device"])
async def test_a_busy_terminal_is_explained_with_what_blocks_it(desk: DeskPort, spelling: str) -> None:
    await desk.simulate("rules", {"queued_code": f"already_queued_order_{spelling}"})
    blocking = await desk.created(POINT)
    answer = await desk.create(POINT | {"external_reference": "mesa-2"}, key="k-2")
    assert answer.status == 422, answer
    (told,) = answer.details()["blocking_order"]
    assert blocking in told
    assert "created" in told
    path = f"/api/v1/orders/{blocking}/cancel"
    assert told.endswith(f"cancel it with POST {path}")
    assert (await desk.call("POST", path, key="k-cancel")).status == 200
    assert (await desk.create(POINT | {"external_reference": "mesa-2"}, key="k-3")).status == 201


async def test_a_terminal_busy_with_something_unknown_here_says_to_look_at_the_device(desk: DeskPort) -> None:
    await desk.simulate("orders", {"type": "point", "terminal_id": TERMINAL})
    answer = await desk.create(POINT)
    assert answer.status == 422, answer
    (told,) = answer.details()["blocking_order"]
    assert "look at the device" in told
    assert TERMINAL in told


async def test_a_create_whose_answer_is_lost_is_one_order_in_the_end(desk: DeskPort) -> None:
    await desk.simulate("faults", {"create": {"body": "disconnect", "when": "after", "count": 1}})
    answer = await desk.create(key="k-lost")
    if answer.status == 202:
        answer = await desk.create(key="k-lost", params={"wait_seconds": "30"})
    assert answer.status == 201, answer
    (order,) = (await desk.simulate("orders"))["data"]
    assert answer.body["order"]["id"] == order["id"]
    assert answer.command["attempts"] == 2


async def test_while_the_provider_is_down_commands_wait_visibly_and_can_be_taken_back(desk: DeskPort) -> None:
    await desk.simulate("faults", {"create": {"status": 429, "retry_after": 600}})
    answer = await desk.create(params={"wait_seconds": "1"})
    assert answer.status == 202, answer
    command_id = answer.command["command_id"]

    async def is_waiting() -> bool:
        shown = await desk.call("GET", f"/api/v1/commands/{command_id}")
        return bool(shown.command["status"] == "waiting" and shown.command["last_error"])

    await until(is_waiting, what="the command waits again")
    withdrawn = await desk.call("POST", f"/api/v1/commands/{command_id}/withdraw")
    assert withdrawn.status == 200, withdrawn
    assert withdrawn.command["status"] == "withdrawn"
    again = await desk.create()
    assert (again.status, again.error["code"], again.command) == (409, "withdrawn", withdrawn.command)
    assert (await desk.simulate("orders"))["data"] == []


async def test_a_terminal_that_was_only_asked_to_let_go_is_not_canceled_yet(desk: DeskPort) -> None:
    await desk.simulate("rules", {"terminal_cancel_seconds": 1})
    spec = {"type": "point", "terminal_id": TERMINAL, "status": "at_terminal", "total_amount": "100.00"}
    order_id = (await desk.simulate("orders", spec))["id"]
    assert (await desk.call("POST", f"/api/v1/orders/{order_id}/sync")).status == 202
    await desk.stored(order_id, "at_terminal")
    path = f"/api/v1/orders/{order_id}/cancel"
    first = await desk.call("POST", f"{path}?wait_seconds=0", key="k-cancel")
    assert first.status == 202, first
    final = await desk.call("POST", f"{path}?wait_seconds=30", key="k-cancel")
    assert final.status == 200, final
    # Its answer says that it was asked to; what became of it is the stored order's to tell.
    assert "order" not in final.body
    await desk.stored(order_id, "canceled")
