"""Bodies of the legacy attended QR: amounts are JSON numbers, dates bear -04:00 (legacy fact sheet). Pure."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from .config import SimulatorConfig
from .in_store import MerchantOrder, Payment, Refund, StoreOrder
from .money import CENT, SITES, ZERO, Json

OFFSET = timedelta(hours=-4)
FEE_RATE = Decimal("0.008")
RELEASE_AFTER = timedelta(days=2)


def number(amount: Decimal) -> int | float:
    """An amount as a JSON number."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def offset_time(at: datetime | None) -> str | None:
    """`2020-08-22T16:34:56.559-04:00`."""
    if at is None:
        return None
    local = at + OFFSET
    return local.strftime("%Y-%m-%dT%H:%M:%S.") + f"{local.microsecond // 1000:03d}-04:00"


def numeric_id(text: str) -> int | str:
    """An account's id as the older APIs write it."""
    return int(text) if text.isdigit() else text


def v1_answer(order: StoreOrder, config: SimulatorConfig) -> Json:
    """What `POST /mpmobile/instore/qr/...` answers."""
    request = order.request
    return {
        "id": order.preference_id,
        "items": request["items"],
        "collector_id": numeric_id(order.user_id),
        "collector": {"id": numeric_id(order.user_id), "nickname": f"SIMULATED{order.user_id}"},
        "total_amount": number(order.total),
        "amount": number(order.total),
        "external_reference": order.external_reference,
        "operation_type": "regular_payment",
        "payment_methods": {"excluded_payment_methods": [], "excluded_payment_types": []},
        "marketplace": "NONE",
        "marketplace_fee": 0,
        "sponsor_id": request.get("sponsor_id"),
        "notification_url": order.notification_url,
        "back_urls": {"success": "", "pending": "", "failure": ""},
        "payer": {},
        "expires": False,
        "additional_info": "",
        "site_id": config.site,
        "client_id": config.application_id,
        "processing_modes": ["aggregator"],
        "internal_metadata": {},
    }


def v2_view(order: StoreOrder) -> Json:
    """What `GET /instore/qr/.../orders` answers about the order on a point of sale."""
    return {**order.request, "expiration_date": offset_time(order.expires_at), "total_amount": number(order.total)}


def merchant_order_view(merchant_order: MerchantOrder, config: SimulatorConfig) -> Json:
    """What `GET /merchant_orders/{id}` answers."""
    order, payments = merchant_order.order, merchant_order.payments
    request = order.request
    sponsor = request.get("sponsor")
    return {
        "id": merchant_order.merchant_order_id,
        "status": merchant_order.status,
        "external_reference": order.external_reference or "",
        "preference_id": order.preference_id,
        "payments": [_short_payment(payment, config) for payment in payments],
        "shipments": [],
        "payouts": [],
        "collector": {"id": numeric_id(order.user_id), "nickname": f"SIMULATED{order.user_id}"},
        "marketplace": "NONE",
        "notification_url": order.notification_url,
        "date_created": offset_time(merchant_order.created_at),
        "last_updated": offset_time(merchant_order.updated_at),
        "sponsor_id": sponsor.get("id") if isinstance(sponsor, dict) else request.get("sponsor_id"),
        "shipping_cost": 0,
        "total_amount": number(order.total),
        "site_id": config.site,
        "paid_amount": number(merchant_order.paid_amount),
        "refunded_amount": number(merchant_order.refunded_amount),
        "payer": {"id": 446566691, "nickname": "SIMULATEDBUYER"} if payments else None,
        "items": request.get("items", []),
        "cancelled": order.state == "deleted",
        "additional_info": "",
        "application_id": config.application_id,
        "is_test": False,
        "order_status": merchant_order.order_status,
    }


def _short_payment(payment: Payment, config: SimulatorConfig) -> Json:
    landed = payment.approved_at is not None
    return {
        "id": payment.payment_id,
        "transaction_amount": number(payment.amount),
        "total_paid_amount": number(payment.amount if landed else ZERO),
        "shipping_cost": 0,
        "currency_id": config.currency or SITES[config.site].currency,
        "status": payment.status,
        "status_detail": payment.status_detail,
        "operation_type": "regular_payment",
        "date_approved": offset_time(payment.approved_at),
        "date_created": offset_time(payment.created_at),
        "last_modified": offset_time(payment.updated_at),
        "amount_refunded": number(payment.refunded),
    }


def payment_view(payment: Payment, merchant_order: MerchantOrder, config: SimulatorConfig) -> Json:
    """What `GET /v1/payments/{id}` answers."""
    order, landed = merchant_order.order, payment.approved_at is not None
    fee = (payment.amount * FEE_RATE).quantize(CENT, ROUND_HALF_UP) if landed else ZERO
    released = payment.approved_at + RELEASE_AFTER if payment.approved_at is not None else None
    details: list[Any] = []
    if landed:
        details = [{"type": "mercadopago_fee", "amount": number(fee), "fee_payer": "collector"}]
    return {
        "id": payment.payment_id,
        "date_created": offset_time(payment.created_at),
        "date_approved": offset_time(payment.approved_at),
        "date_last_updated": offset_time(payment.updated_at),
        "money_release_date": offset_time(released),
        "operation_type": "regular_payment",
        "payment_method_id": payment.method["id"],
        "payment_type_id": payment.method["type"],
        "status": payment.status,
        "status_detail": payment.status_detail,
        "currency_id": config.currency or SITES[config.site].currency,
        "description": _title(order),
        "live_mode": True,
        "collector_id": numeric_id(order.user_id),
        "payer": {"id": "446566691", "type": "registered"},
        "order": {"id": str(merchant_order.merchant_order_id), "type": "mercadopago"},
        "external_reference": order.external_reference,
        "transaction_amount": number(payment.amount),
        "transaction_amount_refunded": number(payment.refunded),
        "coupon_amount": 0,
        "taxes_amount": 0,
        "transaction_details": {
            "net_received_amount": number(payment.amount - fee) if landed else 0,
            "total_paid_amount": number(payment.amount),
            "overpaid_amount": 0,
            "installment_amount": 0,
        },
        "fee_details": details,
        "charges_details": [],
        "captured": True,
        "notification_url": order.notification_url,
        "refunds": [refund_view(refund, order) for refund in payment.refunds],
        "processing_mode": "aggregator",
        "pos_id": order.external_pos_id,
        "store_id": None,
    }


def _title(order: StoreOrder) -> str | None:
    items = order.request.get("items")
    title = order.request.get("title") or (items[0].get("title") if items else None)
    return None if title is None else str(title)


def refund_view(refund: Refund, order: StoreOrder) -> Json:
    """One refund, as `POST` and `GET /v1/payments/{id}/refunds` answer it."""
    return {
        "id": refund.refund_id,
        "payment_id": refund.payment_id,
        "amount": number(refund.amount),
        "metadata": {},
        "source": {"id": order.user_id, "name": f"SIMULATED{order.user_id}", "type": "collector"},
        "date_created": offset_time(refund.created_at),
        "unique_sequence_number": None,
        "refund_mode": "standard",
        "adjustment_amount": 0,
        "status": refund.status,
        "reason": None,
        "labels": [],
        "amount_refunded_to_payer": number(refund.amount),
        "additional_data": None,
        "partition_details": [],
    }
