"""What Mercado Pago answers to what, as recorded in its documentation and in captures: one row per expectation.

A row says what is set up through the control API, which call is made, and the status and code (or members) expected.
`{order}`, `{payment}`, `{legacy_payment}` and `{merchant_order}` in a path or body stand for ids of what was set up.
"""

from dataclasses import dataclass, field
from typing import Any

QR: dict[str, Any] = {
    "type": "qr",
    "total_amount": "100.00",
    "external_reference": "sale-1",
    "config": {"qr": {"external_pos_id": "CAJA01"}},
    "transactions": {"payments": [{"amount": "100.00"}]},
}
ITEM: dict[str, Any] = {"title": "Yerba", "unit_price": "50.00", "quantity": 2}
POINT: dict[str, Any] = {
    "type": "point",
    "external_reference": "mesa-1",
    "config": {"point": {"terminal_id": "NEWLAND_N950__N950NCB801293324"}},
    "transactions": {"payments": [{"amount": "100.00"}]},
}
CARD: dict[str, Any] = {
    "type": "online",
    "total_amount": "100.00",
    "external_reference": "web-1",
    "payer": {"email": "buyer@example.test"},
    "transactions": {"payments": [{"amount": "100.00", "payment_method": {"id": "visa", "type": "credit_card"}}]},
}
PART = {"transactions": [{"id": "{payment}", "amount": "10.00"}]}


@dataclass(frozen=True)
class Expectation:
    """`setup`: control calls (path, body) first. `code`: the error's code; `members`: what the answer holds besides."""

    name: str
    method: str
    path: str
    status: int
    code: str | int | None = None
    body: Any = None
    setup: tuple[tuple[str, Any], ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)
    key: str | None = "k-1"
    legacy: dict[str, Any] | None = None


def changed(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The body with other members; `None` takes one out."""
    return {name: value for name, value in (body | changes).items() if value is not None}


def paid(**more: Any) -> tuple[tuple[str, Any], ...]:
    return (("orders", {"status": "processed", "total_amount": "100.00", **more}),)


def payments(*amounts: Any) -> dict[str, Any]:
    return {"payments": [{"amount": amount} for amount in amounts]}


def create(name: str, body: Any, status: int, code: str | None = None, **more: Any) -> Expectation:
    return Expectation(f"create: {name}", "POST", "/v1/orders", status, code, body, **more)


def refused(name: str, code: str, **changes: Any) -> Expectation:
    return create(name, changed(QR, **changes), 400, code)


CREATES = (
    create("a QR order", QR, 201, members={"status": "created", "type": "qr"}),
    create("a Point order", POINT, 201, members={"status": "created", "type": "point"}),
    create("an online card order", CARD, 201, members={"status": "processed"}),
    create("no key", QR, 400, "empty_required_header", key=None),
    create("a key too long", QR, 400, "invalid_idempotency_key_length", key="k" * 129),
    refused("no type", "required_properties", type=None),
    refused("no transactions", "required_properties", transactions=None),
    refused("no external_reference", "required_properties", external_reference=None),
    refused("no point of sale", "required_properties", config={"qr": {}}),
    refused("an amount as a number", "property_type", transactions=payments(100)),
    refused("a total as a number", "property_type", total_amount=100),
    refused("a description too long", "property_value", description="x" * 151),
    refused("a reference with a blank", "property_value", external_reference="sale 1"),
    refused("a reference too long", "property_value", external_reference="x" * 65),
    refused("a life too short", "property_value", expiration_time="PT29S"),
    refused("a life too long", "property_value", expiration_time="PT3601H"),
    refused("a mode misspelt", "property_value", config={"qr": {"external_pos_id": "C", "mode": "hibrid"}}),
    refused("a quantity of nothing", "property_value", items=[ITEM | {"quantity": 0}]),
    refused("no payment", "minimum_items", transactions=payments()),
    refused("eleven items", "maximum_items", items=[ITEM] * 11),
    refused("notification_url", "unsupported_properties", notification_url="https://example.test"),
    refused("a title", "unsupported_properties", title="Compra"),
    refused("a total of an item", "unsupported_properties", items=[ITEM | {"total_amount": "100.00"}]),
    refused("a total that is not the sum", "invalid_total_amount", total_amount="99.00"),
    refused("items that are not the sum", "order_items_total_amount_mismatch", items=[ITEM | {"quantity": 1}]),
    refused("three decimals", "invalid_transaction_amount", transactions=payments("1.234")),
    refused("no money", "invalid_transaction_amount", transactions=payments("0.00"), total_amount="0.00"),
    refused("two payments", "exceeded_number_of_transactions", transactions=payments("50.00", "50.00")),
    refused("an unknown type", "invalid_order_type", type="cash"),
    create("a Point life too long", POINT | {"expiration_time": "PT4H"}, 400, "property_value"),
    create("an empty payer", CARD | {"payer": {}}, 400, "minimum_properties"),
    create("no payer", changed(CARD, payer=None), 400, "required_properties"),
    create("an unknown point of sale", QR, 404, "pos_not_found", setup=(("rules", {"known_pos": ["OTRA"]}),)),
    create(
        "another's terminal",
        POINT,
        403,
        "forbidden_checking_terminal_owner",
        setup=(("rules", {"known_terminals": []}),),
    ),
    create(
        "a busy terminal",
        POINT,
        409,
        "already_queued_order_on_terminal",
        setup=(("orders", {"type": "point", "terminal_id": "NEWLAND_N950__N950NCB801293324"}),),
    ),
    create(
        "a busy terminal, as the reference spells it",
        POINT,
        409,
        "already_queued_order_for_terminal",
        setup=(
            ("rules", {"queued_code": "already_queued_order_for_terminal"}),
            ("orders", {"type": "point", "status": "at_terminal", "terminal_id": "NEWLAND_N950__N950NCB801293324"}),
        ),
    ),
    create(
        "a declined card",
        CARD,
        402,
        "failed",
        setup=(("rules", {"decline": "rejected_by_issuer"}),),
        members={"data.status": "failed", "data.transactions.payments.0.status_detail": "rejected_by_issuer"},
    ),
)


def cancel(name: str, status: int, code: str | None, setup: Any, **more: Any) -> Expectation:
    setup = setup if isinstance(setup, tuple) else (("orders", setup),)
    return Expectation(f"cancel: {name}", "POST", "/v1/orders/{order}/cancel", status, code, None, setup, **more)


ALLOW = {"x-allow-cancelable-status": "at_terminal"}
CANCELS = (
    cancel("a QR order", 200, None, {}, members={"status": "canceled"}),
    cancel("an online order that waits", 200, None, {"type": "online", "status": "action_required"}),
    cancel("a Point order that was not picked up", 200, None, {"type": "point"}),
    cancel("at the terminal", 409, "cannot_cancel_order", {"type": "point", "status": "at_terminal"}),
    cancel(
        "at the terminal, with the header",
        200,
        None,
        {"type": "point", "status": "at_terminal"},
        headers=ALLOW,
        members={"status": "at_terminal", "status_detail": "cancellation_requested"},
    ),
    cancel(
        "at the terminal, unclear",
        409,
        "cannot_cancel_order",
        {"type": "point", "status": "action_required"},
        headers=ALLOW,
    ),
    cancel("a paid order", 409, "cannot_cancel_order", {"status": "processed"}),
    cancel("an expired order", 409, "cannot_cancel_order", {"status": "expired"}),
    cancel("a canceled order", 409, "order_already_canceled", {"status": "canceled"}),
    cancel("no key", 400, "empty_required_header", {}, key=None),
    cancel(
        "too soon",
        409,
        "processor_communication_error",
        (("faults", {"not_yet": {"cancel": {"times": 1}}}), ("orders", {})),
    ),
    Expectation("cancel: no order id", "POST", "/v1/orders/123/cancel", 400, "invalid_path_param"),
    Expectation(
        "cancel: no such order", "POST", "/v1/orders/ORD01M2G3K2XF0W7YQHBTWEK4BXB9/cancel", 404, "order_not_found"
    ),
)


def refund(name: str, status: int, code: str | None, body: Any, setup: Any = None, **more: Any) -> Expectation:
    setup = paid() if setup is None else setup
    return Expectation(f"refund: {name}", "POST", "/v1/orders/{order}/refund", status, code, body, setup, **more)


def too_soon(code: str) -> tuple[tuple[str, Any], ...]:
    return (("faults", {"not_yet": {"refund": {"code": code, "seconds": 60}}}), *paid())


REFUNDS = (
    refund("all, without a body", 201, None, None, members={"status": "refunded"}),
    refund("all, with an empty object", 201, None, {}, members={"status": "refunded"}),
    refund("a part", 201, None, PART, members={"status_detail": "partially_refunded"}),
    refund("the rest", 201, None, {}, paid(refunds=["30.00"]), members={"transactions.refunds.0.amount": "70.00"}),
    refund(
        "in process",
        201,
        None,
        {},
        (("rules", {"refund_processing_seconds": 60}), *paid()),
        members={"status": "processed", "transactions.refunds.0.status": "processing"},
    ),
    refund("too much", 400, "refund_amount_exceeds", {"transactions": [{"id": "{payment}", "amount": "100.01"}]}),
    refund("nothing", 400, "property_value", {"transactions": [{"id": "{payment}", "amount": "0.00"}]}),
    refund("a number", 400, "property_type", {"transactions": [{"id": "{payment}", "amount": 1}]}),
    refund("as a vendor's guide has it", 400, "unsupported_properties", {"amount": "10.00"}),
    refund("of no payment of ours", 404, "transaction_not_found", {"transactions": [{"id": "PAY0", "amount": "1.00"}]}),
    refund("of what is refunded", 409, "order_already_refunded", {}, (*paid(), ("orders/{order}/refund", {}))),
    refund(
        "while all is in process",
        409,
        "order_refund_already_in_process",
        {},
        (*paid(), ("orders/{order}/refund", {"status": "processing"})),
    ),
    refund("of an unpaid order", 409, "cannot_refund_order", {}, (("orders", {}),)),
    refund("a part with a tip", 403, "partial_refund_forbidden_with_tips", PART, paid(type="point", tip_amount="5.00")),
    refund("all with a tip", 201, None, {}, paid(type="point", tip_amount="5.00")),
    refund("after its time", 409, "refund_period_exceeded", {}, (*paid(), ("clock", {"advance_seconds": 181 * 86400}))),
    refund("too soon: 422", 422, "unprocessable_entity", {}, too_soon("unprocessable_entity")),
    refund(
        "too soon: 409", 409, "post_processing_operation_pending", {}, too_soon("post_processing_operation_pending")
    ),
    refund(
        "too soon: 425",
        425,
        "order_payment_not_yet_enabled_for_refund",
        {},
        too_soon("order_payment_not_yet_enabled_for_refund"),
    ),
    refund(
        "without money", 428, "insufficient_money_for_refund", {}, (*paid(), ("faults", {"refund": {"status": 428}}))
    ),
    refund("no key", 400, "empty_required_header", {}, key=None),
)

ORDERS = (*CREATES, *CANCELS, *REFUNDS)
