"""Payments of `/v1/orders` as the Payments API shows them, found by their `reference_id` (legacy sheet, §5). Pure.

Only here are net amount and release date; the order's own id is not among the documented members.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from .clock import parse_time
from .config import SimulatorConfig
from .in_store_shapes import FEE_RATE, RELEASE_AFTER, number, numeric_id, offset_time
from .ledger import Ledger, SimulatedOrder
from .money import CENT, SITES, ZERO, Json
from .payloads import payments_of, records_of

STATUSES = {
    "created": "pending",
    "at_terminal": "pending",
    "processing": "in_process",
    "action_required": "pending",
    "processed": "approved",
    "refunded": "refunded",
    "charged_back": "charged_back",
    "failed": "rejected",
    "canceled": "cancelled",
    "expired": "cancelled",
}
REFUND_STATUSES = {"processed": "approved", "processing": "in_process", "failed": "rejected"}


def find_order_payment(ledger: Ledger, reference_id: str) -> tuple[SimulatedOrder, Json] | None:
    """The order and the payment that bear this `reference_id`."""
    for order in ledger.in_order():
        for payment in payments_of(order.view):
            if payment.get("reference_id") == reference_id:
                return order, payment
    return None


def order_payment_view(order: SimulatedOrder, payment: Json, config: SimulatorConfig) -> Json:
    """What `GET /v1/payments/{id}` answers for a payment of an order. Its refunds bear the ids of the Payments API."""
    status = STATUSES.get(str(payment.get("status")), "pending")
    landed = status in {"approved", "refunded", "charged_back"}
    amount = _amount(payment, "paid_amount") if landed else _amount(payment, "amount")
    refunds = list(_refunds(order, payment))
    refunded = sum((Decimal(str(refund["amount"])) for refund in refunds if refund["status"] == "approved"), ZERO)
    fee = (amount * FEE_RATE).quantize(CENT, ROUND_HALF_UP) if landed else ZERO
    created, updated = _time(order, "created_date"), _time(order, "last_updated_date")
    method = payment.get("payment_method") or {}
    return {
        "id": _id(payment),
        "date_created": offset_time(created),
        "date_approved": offset_time(order.paid_at) if landed else None,
        "date_last_updated": offset_time(updated),
        "money_release_date": offset_time(order.paid_at + RELEASE_AFTER) if landed and order.paid_at else None,
        "operation_type": "regular_payment",
        "payment_method_id": method.get("id"),
        "payment_type_id": method.get("type"),
        "status": status,
        "status_detail": "partially_refunded" if status == "approved" and refunded > 0 else "accredited",
        "currency_id": config.currency or SITES[config.site].currency,
        "collector_id": numeric_id(str(order.body.get("user_id"))),
        "external_reference": order.body.get("external_reference"),
        "transaction_amount": number(amount),
        "transaction_amount_refunded": number(refunded),
        "transaction_details": {
            "net_received_amount": number(amount - fee) if landed else 0,
            "total_paid_amount": number(amount),
        },
        "refunds": refunds,
        "live_mode": True,
    }


def _refunds(order: SimulatedOrder, payment: Json) -> Iterator[Json]:
    for refund in records_of(order.view, "refunds"):
        if refund.get("transaction_id") == payment.get("id"):
            yield {
                "id": _id(refund),
                "payment_id": _id(payment),
                "amount": number(Decimal(str(refund.get("amount")))),
                "status": REFUND_STATUSES.get(str(refund.get("status")), "in_process"),
                "date_created": offset_time(_time(order, "last_updated_date")),
            }


def _id(record: Json) -> int | str | None:
    text = record.get("reference_id")
    return int(text) if isinstance(text, str) and text.isdigit() else text


def _amount(payment: Json, name: str) -> Decimal:
    value = payment.get(name)
    return ZERO if value is None else Decimal(str(value))


def _time(order: SimulatedOrder, name: str) -> datetime | None:
    try:
        return parse_time(str(order.view.get(name)))
    except (ValueError, OverflowError):
        return None
