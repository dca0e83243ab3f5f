"""The client against the simulator as a server of its own: whole sales on both systems, and calls that go wrong."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import (
    BadRequest,
    ConnectionTrouble,
    NonsenseAnswer,
    OrderNotFound,
    ServerTrouble,
    Timeout,
)
from service.mercadopago.legacy import order_body_v2, with_expiry
from service.mercadopago.listing import ListedOrder
from service.mercadopago.reader import read_any
from service.orders.history import EMPTY, remember
from service.orders.rules import evaluate
from service.orders.snapshot import OrderSnapshot
from tests.support.processes import Simulator

POS = "CAJA01"
QR = {
    "type": "qr",
    "total_amount": "50.00",
    "external_reference": "venta-1",
    "expiration_time": "PT16M",
    "config": {"qr": {"external_pos_id": POS, "mode": "dynamic"}},
    "transactions": {"payments": [{"amount": "50.00"}]},
}
POINT = {
    "type": "point",
    "external_reference": "venta-2",
    "config": {"point": {"terminal_id": "NEWLAND_N950__N950NCB801293324"}},
    "transactions": {"payments": [{"amount": "50.00"}]},
}
SALE: dict[str, Any] = {
    "external_reference": "mesa-4",
    "items": [{"title": "Café", "unit_price": 33.4, "quantity": 3, "currency_id": "ARS"}],
}


def document(answer: ProviderAnswer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.document is not None
    assert json.loads(answer.text) == json.loads(json.dumps(answer.document, default=float))
    return answer.document


def rules_of(snapshot: OrderSnapshot) -> set[str]:
    now = datetime.now(UTC)
    return {finding.rule for finding in evaluate(snapshot, remember(EMPTY, snapshot, now), now)}


# The Orders API ------------------------------------------------------------------------------------------------------


async def test_a_sale_from_its_creation_to_its_refund(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    made = document(await client.create_order(account, json.dumps(QR), "key-1"), 201)
    order_id = made["id"]
    again = document(await client.create_order(account, json.dumps(QR), "key-1"), 201)
    assert again["id"] == order_id
    other = await client.create_order(account, json.dumps(QR | {"total_amount": "60.00"}), "key-1")
    assert (other.status, other.code) == (409, "idempotency_key_already_used")
    unpaid = await client.refund_order(account, order_id, None, "key-2")
    assert (unpaid.status, unpaid.code) == (409, "cannot_refund_order")
    simulator.tell(f"orders/{order_id}/pay", {})
    payment_id = (await client.get_any(account, order_id)).read.snapshot.payments[0].payment_id
    part = json.dumps({"transactions": [{"id": payment_id, "amount": "20.00"}]})
    refunded = document(await client.refund_order(account, order_id, part, "key-3"), 201)
    assert [one["amount"] for one in refunded["transactions"]["refunds"]] == ["20.00"]
    document(await client.refund_order(account, order_id, None, "key-4"), 201)
    snapshot = (await client.get_any(account, order_id)).read.snapshot
    assert snapshot.status == "refunded"
    assert [one.amount for one in snapshot.refunds] == [Decimal("20.00"), Decimal("30.00")]
    assert simulator.ask("requests")["counts"]["create"] == {"201": 2, "409": 1}


async def test_a_terminal_lets_go_only_when_it_is_told_to(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    order_id = document(await client.create_order(account, json.dumps(POINT), "key-1"), 201)["id"]
    busy = await client.create_order(account, json.dumps(POINT), "key-2")
    assert (busy.status, busy.code) == (409, "already_queued_order_on_terminal")
    simulator.tell(f"orders/{order_id}/terminal", {})
    refused = await client.cancel_order(account, order_id, "key-3", at_terminal=False)
    assert (refused.status, refused.code) == (409, "cannot_cancel_order")
    asked = document(await client.cancel_order(account, order_id, "key-4", at_terminal=True), 200)
    assert (asked["status"], asked["status_detail"]) == ("at_terminal", "cancellation_requested")


async def test_a_declined_card_leaves_an_order(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    simulator.tell("rules", {"decline": "rejected_by_issuer"})
    body = {
        "type": "online",
        "total_amount": "50.00",
        "external_reference": "venta-3",
        "payer": {"email": "buyer@example.com"},
        "transactions": {
            "payments": [
                {
                    "amount": "50.00",
                    "payment_method": {"id": "visa", "type": "credit_card", "token": "t", "installments": 1},
                }
            ]
        },
    }
    answer = await client.create_order(account, json.dumps(body), "key-1")
    assert (answer.status, answer.code) == (402, "failed")
    assert answer.message is not None
    assert "rejected_by_issuer" in answer.message
    order: Any = document(answer, 402)["data"]
    assert (await client.get_order(account, order["id"])).read.snapshot.status == "failed"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"body": "disconnect"}, ConnectionTrouble),
        ({"body": "disconnect", "when": "after"}, ConnectionTrouble),
        ({"body": "hang", "when": "after"}, Timeout),
        ({"body": "html", "status": 200, "when": "after"}, NonsenseAnswer),
        ({"body": "empty", "status": 201, "when": "after"}, NonsenseAnswer),
        ({"body": "truncated", "when": "after"}, NonsenseAnswer),
        ({"body": "cut", "when": "after"}, ConnectionTrouble),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
async def test_a_lost_answer_is_told_and_the_same_key_finds_the_order(
    fault: dict[str, Any],
    kind: type[ConnectionTrouble | Timeout | NonsenseAnswer],
    account: Account,
    simulator: Simulator,
) -> None:
    simulator.tell("faults", {"create": fault | {"count": 1}})
    async with MercadoPagoClient(simulator.url, total_timeout_seconds=1.5) as client:
        with pytest.raises(kind) as caught:
            await client.create_order(account, json.dumps(QR), "key-1")
        assert caught.value.sent is True
        made = list(simulator.ledger())
        assert len(made) == ("when" in fault)
        order_id = document(await client.create_order(account, json.dumps(QR), "key-1"), 201)["id"]
    assert list(simulator.ledger()) == [order_id]
    assert made in ([], [order_id])


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_not_now(client: MercadoPagoClient, account: Account, simulator: Simulator, status: int) -> None:
    simulator.tell("faults", {"create": {"status": status, "retry_after": 7}})
    answer = await client.create_order(account, json.dumps(QR), "key-1")
    assert answer.status == status
    assert answer.retry_after_seconds in {7.0, None}
    assert simulator.ask("requests")["total"] == 1


# Search --------------------------------------------------------------------------------------------------------------


async def test_every_order_of_a_time_is_listed_oldest_first(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    for place in range(7):
        simulator.tell("orders", {"total_amount": f"{place + 1}.00", "external_reference": f"venta-{place}"})
    now = datetime.now(UTC)
    begin, end = now - timedelta(days=1), now + timedelta(hours=1)
    listed: list[ListedOrder] = []
    for page in range(1, 10):
        got = await client.search_orders(account, begin=begin, end=end, page=page, page_size=3)
        listed += got.orders
        assert (got.total, got.skipped) == (7, 0)
        if got.is_last:
            break
    assert page == 3
    assert [order.external_reference for order in listed] == [f"venta-{place}" for place in range(7)]
    assert listed[0].total_amount == Decimal("1.00")
    assert all(begin < order.created_at < end for order in listed if order.created_at)
    one = await client.search_orders(account, begin=begin, end=end, external_reference="venta-5")
    assert [order.total_amount for order in one.orders] == [Decimal("6.00")]
    assert one.is_last
    assert (await client.search_orders(account, begin=begin, end=begin + timedelta(hours=1))).orders == ()


async def test_a_search_that_is_refused(client: MercadoPagoClient, account: Account) -> None:
    now = datetime.now(UTC)
    with pytest.raises(NonsenseAnswer) as caught:
        await client.search_orders(account, begin=now - timedelta(days=40), end=now)
    assert caught.value.status == 400
    assert "invalid_parameter" in str(caught.value)


@pytest.mark.parametrize(
    "asked",
    [
        {"begin": datetime(2026, 9, 1), "end": datetime(2026, 9, 2, tzinfo=UTC)},  # noqa: DTZ001 - the fault in question
        {"page": 0},
        {"page_size": 0},
        {"page_size": 101},
    ],
)
async def test_a_search_that_makes_no_sense(client: MercadoPagoClient, account: Account, asked: dict[str, Any]) -> None:
    times = {"begin": datetime(2026, 9, 1, tzinfo=UTC), "end": datetime(2026, 9, 2, tzinfo=UTC)}
    with pytest.raises(ValueError, match="timezone"):
        await client.search_orders(account, **(times | asked))


# The legacy QR -------------------------------------------------------------------------------------------------------


async def put(client: MercadoPagoClient, account: Account, body: dict[str, Any] = SALE) -> None:
    answer = await client.put_legacy_order(
        account, POS, json.dumps(body), generation="v1", ttl_seconds=None, store_id=None
    )
    assert answer.status == 200


def act(simulator: Simulator, name: str, **body: Any) -> Any:
    return simulator.tell(f"legacy/{POS}/{name}", body)


def order_id_of(sale: Any) -> str:
    return f"MO{sale['merchant_order']['id']}"


async def test_a_legacy_sale_from_the_scan_to_its_refund(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    await put(client, account)
    order_id = order_id_of(act(simulator, "scan"))

    async def look() -> OrderSnapshot:
        fetched = await client.get_any(account, order_id)
        assert fetched.provider_date is not None
        assert read_any(fetched.read.text.encode(), order_id) == fetched.read
        assert rules_of(fetched.read.snapshot) == set()
        return fetched.read.snapshot

    scanned = await look()
    assert (scanned.order_id, scanned.type, scanned.status) == (order_id, "legacy_qr", "created")
    assert (scanned.external_reference, scanned.total_amount, scanned.currency) == ("mesa-4", Decimal("100.2"), "ARS")
    act(simulator, "reject")
    assert [one.status for one in (await look()).payments] == ["failed"]
    act(simulator, "pay")
    paid = await look()
    assert (paid.status, paid.status_detail) == ("processed", "accredited")
    payment = paid.payments[1]
    assert (payment.status, payment.amount, payment.paid_amount) == ("processed", Decimal("100.2"), Decimal("100.2"))
    assert payment.reference_id == payment.payment_id
    part = document(await client.refund_payment(account, payment.payment_id, '{"amount":30.05}', "key-1"), 201)
    assert part["amount"] == Decimal("30.05")
    same = document(await client.refund_payment(account, payment.payment_id, '{"amount":30.05}', "key-1"), 201)
    assert same["id"] == part["id"]
    partly = await look()
    assert (partly.status, partly.status_detail) == ("processed", "partially_refunded")
    assert [(one.refund_id, one.amount) for one in partly.refunds] == [(str(part["id"]), Decimal("30.05"))]
    document(await client.refund_payment(account, payment.payment_id, "{}", "key-2"), 201)
    refunded = await look()
    assert (refunded.status, refunded.payments[1].status) == ("refunded", "refunded")
    assert sum(one.amount or 0 for one in refunded.refunds) == Decimal("100.2")
    assert refunded.updated_at is not None
    assert scanned.updated_at is not None
    assert refunded.updated_at > scanned.updated_at
    over = await client.refund_payment(account, payment.payment_id, "{}", "key-3")
    assert (over.status, over.code) == (400, "2063")


async def test_the_second_generation_from_the_same_body(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    assert await client.get_legacy_current(account, POS) is None
    sale = SALE | {"items": [SALE["items"][0] | {"unit_price": Decimal("33.40")}]}
    body = order_body_v2(sale, now=datetime.now(UTC), ttl_seconds=900)
    answer = await client.put_legacy_order(
        account, POS, body, generation="v2", ttl_seconds=900, store_id=account.legacy_store_id
    )
    assert (answer.status, answer.document, answer.text) == (204, None, "")
    for form in ("array", "object"):
        simulator.tell("rules", {"v2_get": form})
        current = await client.get_legacy_current(account, POS)
        assert current is not None
        assert (current["external_reference"], current["total_amount"]) == ("mesa-4", Decimal("100.2"))
    assert rules_of((await client.get_any(account, order_id_of(act(simulator, "pay")))).read.snapshot) == set()


async def test_deleting_of_the_second_generation(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    body = order_body_v2(SALE | {"items": [{"title": "Café", "unit_price": 5, "quantity": 1}]}, now=datetime.now(UTC))
    await client.put_legacy_order(account, POS, body, generation="v2", ttl_seconds=None, store_id="SUC001")
    order_id = order_id_of(act(simulator, "scan"))
    assert (await client.delete_legacy_order(account, POS, generation="v2", store_id="SUC001")).status == 204
    assert await client.get_legacy_current(account, POS) is None
    nothing = await client.delete_legacy_order(account, POS, generation="v2", store_id="SUC001")
    assert (nothing.status, nothing.code) == (400, "in_store_order_delete_error")
    assert (await client.get_any(account, order_id)).read.snapshot.status == "canceled"


async def test_what_is_refused_says_why(client: MercadoPagoClient, account: Account) -> None:
    bad = await client.put_legacy_order(account, POS, '{"items":{}}', generation="v1", ttl_seconds=None, store_id=None)
    assert (bad.status, bad.code) == (400, "invalid_preference_body")
    missing = await client.refund_payment(account, "118999999999", "{}", "key-1")
    assert (missing.status, missing.code) == (404, "2000")


async def test_a_sale_is_found_by_its_reference(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    assert await client.search_merchant_orders(account, "mesa-4") == ()
    numbers = []
    for _ in range(52):
        await put(client, account)
        numbers.append(str(act(simulator, "scan")["merchant_order"]["id"]))
    found = await client.search_merchant_orders(account, "mesa-4")
    assert sorted(found) == sorted(numbers)
    assert await client.search_merchant_orders(account, "mesa-5") == ()


async def test_a_payment_leads_to_its_sale(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    await put(client, account)
    sale = act(simulator, "pay")
    payment = await client.get_payment(account, str(sale["payments"][0]["id"]))
    assert payment["transaction_amount"] == Decimal("100.2")
    assert payment["order"] == {"id": str(sale["merchant_order"]["id"]), "type": "mercadopago"}


async def test_money_under_review_and_decided(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    await put(client, account)
    order_id = order_id_of(act(simulator, "pending"))
    assert (await client.get_any(account, order_id)).read.snapshot.status == "processing"
    act(simulator, "approve")
    assert (await client.get_any(account, order_id)).read.snapshot.status == "processed"
    act(simulator, "chargeback")
    charged_back = (await client.get_any(account, order_id)).read.snapshot
    assert (charged_back.status, charged_back.payments[0].status) == ("charged_back", "charged_back")
    assert rules_of(charged_back) == set()


async def test_a_refund_in_process_and_one_that_fails(
    client: MercadoPagoClient, account: Account, simulator: Simulator
) -> None:
    simulator.tell("rules", {"refund_processing_seconds": 60, "refund_ends": "failed"})
    await put(client, account)
    sale = act(simulator, "pay")
    await client.refund_payment(account, str(sale["payments"][0]["id"]), "{}", "key-1")
    waiting = (await client.get_any(account, order_id_of(sale))).read.snapshot
    assert (waiting.status, waiting.refunds[0].status) == ("processed", "processing")
    assert rules_of(waiting) == set()


async def test_a_sale_that_runs_out_unseen(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    await put(client, account)
    scanned = act(simulator, "scan")
    read = (await client.get_any(account, order_id_of(scanned))).read
    ends = datetime.fromisoformat(scanned["expires_at"])
    assert with_expiry(read, ends, ends - timedelta(seconds=1)).snapshot.status == "created"
    assert with_expiry(read, ends, ends + timedelta(seconds=1)).snapshot.status == "expired"
    act(simulator, "expire")
    assert (await client.get_any(account, order_id_of(scanned))).read.snapshot.status == "expired"


async def test_what_is_not_there(client: MercadoPagoClient, account: Account, simulator: Simulator) -> None:
    with pytest.raises(OrderNotFound) as no_order:
        await client.get_any(account, "MO36678900123")
    assert str(no_order.value) == "404 not_found: merchant order not found"
    with pytest.raises(OrderNotFound):
        await client.get_payment(account, "118000000101")
    await put(client, account)
    sale = act(simulator, "pay")
    payment_id = str(sale["payments"][0]["id"])
    simulator.tell("faults", {"payment": {"status": 404, "code": "not_found", "message": "Payment not found"}})
    with pytest.raises(OrderNotFound, match=rf"\(payment {payment_id}\)$"):
        await client.get_any(account, order_id_of(sale))
    simulator.tell("faults", {"payment": {"status": 503}})
    with pytest.raises(ServerTrouble, match=rf"\(payment {payment_id}\)$"):
        await client.get_any(account, order_id_of(sale))


@pytest.mark.parametrize("order_id", ["PY118000000101", "MO1/2", "MO", "../1", ""])
async def test_what_is_no_order_is_not_asked_for(
    client: MercadoPagoClient, account: Account, simulator: Simulator, order_id: str
) -> None:
    if order_id != "MO":
        with pytest.raises(BadRequest):
            await client.get_any(account, order_id)
    with pytest.raises(BadRequest):
        await client.get_merchant_order(account, order_id)
    with pytest.raises(BadRequest):
        await client.get_payment(account, order_id)
    assert simulator.ask("requests")["total"] == 0
