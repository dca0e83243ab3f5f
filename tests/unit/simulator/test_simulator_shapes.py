"""Bodies of orders and notifications have the structure of the captured ones."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from service.simulator import lifecycle
from service.simulator.clock import parse_time
from service.simulator.draws import Draws
from service.simulator.ids import ulid_time
from service.simulator.ledger import Ledger, SimulatedOrder
from service.simulator.notices import feed_notice, order_notice, panel_notice, webhook_notice
from service.simulator.spec import QUIRKS, read_spec

Load = Callable[[str], Any]
Structure = Callable[[Any], Any]
CARD = {"id": "master", "type": "credit_card", "installments": 2}
DISCOUNT = [{"type": "account_money", "new_total_amount": "1425.00"}]
ITEM = {"title": "Yerba", "unit_price": "750.00", "quantity": 2, "unit_measure": "unit", "external_code": "7790001"}

ORDERS: dict[str, dict[str, Any]] = {
    "order-created-qr.json": {"description": "Mostrador 7", "items": [ITEM]},
    "order-at-terminal-point.json": {
        "type": "point",
        "status": "at_terminal",
        "description": "Mesa 14",
        "quirks": ["empty_taxes"],
        "overrides": {
            "integration_data": {"platform_id": "dev_1"},
            "config": {
                "point": {"ticket_number": "S1"},
                "payment_method": {
                    "default_type": "credit_card",
                    "default_installments": "6",
                    "installments_cost": "seller",
                },
            },
        },
    },
    "order-processed-qr.json": {
        "status": "processed",
        "description": "Mostrador 7",
        "total_amount": "1500.00",
        "discounts": DISCOUNT,
        "payment_method": {"id": "account_money", "type": "account_money", "installments": 1},
        "quirks": ["empty_taxes", "unknown_fields", "discounts_array"],
        "overrides": {
            "marketplace_fee": "0.00",
            "site_id": "MLA",
            "integration_data": {"integrator_id": "dev_1234", "sponsor": {"id": "446566691"}},
            "transactions": {"payments": [{"provider": "mercadopago"}]},
        },
    },
    "order-partially-refunded-qr.json": {"status": "partially_refunded", "payment_method": CARD},
    "order-refunded-qr-official-sample.json": {
        "status": "refunded",
        "description": "Point Mini",
        "payment_method": CARD,
        "paid_amount": "47.28",
        "total_amount": "50.00",
        "discounts": DISCOUNT,
        "items": [ITEM | {"external_categories": [{"id": "food"}]}],
        "quirks": ["empty_taxes", "no_currency", "discounts_object", "refunded_detail_created"],
        "overrides": {
            "marketplace_fee": "11.22",
            "total_paid_amount": None,
            "integration_data": {"platform_id": "dev_1", "integrator_id": "dev_1", "sponsor": {"id": "1"}},
        },
    },
    "order-canceled-qr.json": {"status": "canceled", "overrides": {"taxes": [{"payer_condition": "x"}]}},
    "order-expired-qr.json": {"status": "expired", "site": "MLC", "total_amount": "990.00"},
    "order-failed-point.json": {"type": "point", "status": "failed"},
    "order-action-required-point.json": {"type": "point", "status": "action_required"},
    "order-charged-back-online.json": {"type": "online", "status": "charged_back", "payment_method": CARD},
    "variants/order-canceled-expired-online-pix.json": {"type": "online", "test": True},
    "variants/order-created-qr-hybrid.json": {
        "mode": "hybrid",
        "discounts": DISCOUNT,
        "quirks": ["alpha2_country", "two_digit_fractions"],
        "overrides": {"integration_data": {"sponsor": {"id": "1"}}},
    },
    "variants/order-processed-point-tip.json": {
        "type": "point",
        "status": "processed",
        "total_amount": "364.00",
        "tip_amount": "54.60",
        "payment_method": CARD,
        "quirks": ["alpha2_country"],
    },
    "variants/order-refunded-online-two-steps.json": {
        "type": "online",
        "status": "refunded",
        "test": True,
        "total_amount": "100.00",
        "refunds": ["30.00", "70.00"],
        "payment_method": CARD
        | {"token": "0" * 32, "installment_amount": "100.00", "transaction_security": {"validation": "never"}},
        "overrides": {"config": {"online": {"transaction_security": {"validation": "never"}}}},
    },
}

# These ended as the provider ends them; nobody asks for that state by its name.
RAN_OUT = {"variants/order-canceled-expired-online-pix.json"}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_has_the_structure_of_the_captured_one(
    ledger: Ledger, now: datetime, captured: Load, structure: Structure, name: str
) -> None:
    order, _ = ledger.create(read_spec(ORDERS[name]), now)
    if name in RAN_OUT:
        ledger.change(order, lambda body, _: lifecycle.expire(body), now)
    example = captured(name)
    shown = json.loads(order.rendered)
    assert structure(shown) == structure(example)
    for said in ("type", "status", "status_detail"):
        assert shown[said] == example[said]
    assert len(shown["country_code"]) == len(example["country_code"])
    assert len(shown["id"]) == len(example["id"]) or "official" in name
    details = [(p["status"], p["status_detail"]) for p in shown["transactions"]["payments"]]
    assert details == [(p["status"], p["status_detail"]) for p in example["transactions"]["payments"]]


def test_ids_carry_the_moment_of_creation(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"status": "refunded"}), now)
    assert ulid_time(order.order_id) == parse_time(order.body["created_date"]) == now
    (payment,) = order.body["transactions"]["payments"]
    assert ulid_time(payment["id"]) == now
    assert [len(payment["id"]), payment["id"][:3], order.order_id[:3]] == [29, "PAY", "ORD"]


def test_wallet_discount_and_tip_change_what_is_paid(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec(ORDERS["order-processed-qr.json"]), now)
    assert (order.body["total_amount"], order.body["total_paid_amount"]) == ("1500.00", "1425.00")
    tipped, _ = ledger.create(read_spec(ORDERS["variants/order-processed-point-tip.json"]), now)
    assert tipped.body["transactions"]["payments"][0]["paid_amount"] == "418.60"


def test_quirks_of_dates_and_numbers(ledger: Ledger, now: datetime) -> None:
    quirks = ["nine_digit_fractions", "number_amounts", "site_country"]
    order, _ = ledger.create(read_spec({"total_amount": "15.50", "quirks": quirks}), now)
    shown = json.loads(order.rendered)
    assert shown["created_date"].startswith("2026-09-14T13:05:22.727")
    assert len(shown["created_date"]) == len("2026-09-14T13:05:22.727000000Z")
    assert (shown["total_amount"], shown["transactions"]["payments"][0]["amount"]) == (15.5, 15.5)
    assert shown["country_code"] == "MLA"
    assert order.body["total_amount"] == "15.50"


@pytest.mark.parametrize("quirk", sorted(QUIRKS))
def test_every_quirk_shows_and_leaves_the_books_alone(ledger: Ledger, now: datetime, quirk: str) -> None:
    spec = {"external_reference": "same", "status": "refunded", "total_amount": "10.00"}
    plain, _ = ledger.create(read_spec(spec), now)
    odd, _ = ledger.create(read_spec(spec | {"quirks": [quirk]}), now)
    assert structure_and_details(odd) != structure_and_details(plain)
    assert lifecycle.refundable(odd.body, odd.body["transactions"]["payments"][0]) == 0


def structure_and_details(order: SimulatedOrder) -> Any:
    """What a quirk can change of an order, without its ids and references."""
    view = json.loads(order.rendered)
    for record in [*view["transactions"]["payments"], *view["transactions"]["refunds"]]:
        for name in ("id", "transaction_id", "reference_id", "payment_method"):
            record.pop(name, None)
    for name in ("id", "config"):
        view.pop(name)
    return view


NOTICES: dict[str, tuple[str, dict[str, Any]]] = {
    "order.processed.qr.json": ("order.processed", {"status": "processed"}),
    "order.processed.point.json": ("order.processed", {"type": "point", "status": "processed"}),
    "order.canceled.qr.json": ("order.canceled", {"status": "canceled"}),
    "order.expired.qr.json": ("order.expired", {"status": "expired"}),
    "order.refunded.qr.json": ("order.refunded", {"status": "refunded", "refunds": ["1.00", "9.00"]}),
    "order.refunded.qr.partial-UNVERIFIED.json": ("order.refunded", {"status": "partially_refunded"}),
    "order.failed.point.json": ("order.failed", {"type": "point", "status": "failed"}),
    "order.action_required.point.json": ("order.action_required", {"type": "point", "status": "action_required"}),
    "order.action_required.online-pix.test-credentials.json": (
        "order.action_required",
        {"type": "online", "status": "action_required", "test": True},
    ),
    "order.charged_back.online.json": (
        "order.charged_back",
        {"type": "online", "status": "charged_back", "payment_method": CARD},
    ),
}


@pytest.mark.parametrize("name", NOTICES)
def test_a_notification_has_the_structure_of_the_captured_one(
    ledger: Ledger, now: datetime, captured: Load, structure: Structure, name: str
) -> None:
    action, spec = NOTICES[name]
    order, event = ledger.create(read_spec({"total_amount": "10.00"} | spec), now)
    assert event == action
    said, example = json.loads(order_notice(order, action, Draws(1)).body), captured(f"notifications/{name}")
    assert structure(said) == structure(example)
    for part in ("status", "status_detail", "type"):
        assert said["data"][part] == example["data"][part]
    assert said["live_mode"] is example["live_mode"]
    if "online" not in name:
        assert said["data"]["version"] == example["data"]["version"]


def test_the_query_names_reference_id_and_type(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"external_reference": "POS7-1", "status": "processed"}), now)
    notice = order_notice(order, "order.processed", Draws(1))
    assert notice.query == (("data.external_reference", "POS7-1"), ("data.id", order.order_id), ("type", "order"))
    assert notice.user_agent == "MercadoPago WebHook v1.0 order"


def test_notification_dates_have_nanoseconds_without_trailing_zeros(ledger: Ledger, now: datetime) -> None:
    lengths = set()
    for number in range(60):
        order, _ = ledger.create(read_spec({"status": "processed", "external_reference": f"n{number}"}), now)
        date = json.loads(order_notice(order, "order.processed", ledger.draws).body)["date_created"]
        lengths.add(len(date.removesuffix("Z").split(".")[1]))
        assert parse_time(date) > order.updated_at
    assert 9 in lengths
    assert lengths <= {6, 7, 8, 9}


def test_numbers_in_the_order_are_numbers_in_the_notification(ledger: Ledger, now: datetime) -> None:
    spec = read_spec({"status": "processed", "total_amount": "15.50", "quirks": ["number_amounts"]})
    order, _ = ledger.create(spec, now)
    assert json.loads(order_notice(order, "order.processed", Draws(1)).body)["data"]["total_amount"] == 15.5


def test_other_topics_have_the_captured_structure(captured: Load, structure: Structure) -> None:
    legacy = {
        "merchant_order.feed-v2.json": ("merchant_order", "36678900123"),
        "payment.ipn.json": ("payment", "118000000101"),
    }
    for name, (topic, resource_id) in legacy.items():
        notice = feed_notice(topic, resource_id)
        assert json.loads(notice.body) == captured(f"notifications/{name}")
        assert notice.query == (("topic", topic), ("id", resource_id))
    panel = panel_notice("123456", "2100457788", "5512340987654321")
    assert json.loads(panel.body) == captured("notifications/panel-simulation.json")
    payment = webhook_notice("payment", "payment.updated", "118000000101", "2100457788", 1, "2026-09-14T14:02:43Z")
    assert structure(json.loads(payment.body)) == structure(captured("notifications/payment.updated.webhook.json"))
