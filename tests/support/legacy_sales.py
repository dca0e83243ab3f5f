"""Sales of the legacy attended QR for the tests: merchant orders, payments and refunds as the provider writes them.

Composed from the documented fields (the attended model's reference, the Payments API). Amounts are JSON numbers; they
are given as text and written digit by digit, so that no float comes between.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from service.mercadopago.documents import ReadOrder
from service.mercadopago.json_text import JsonDocument, parse_json
from service.mercadopago.legacy import listed_payments, needs_refunds, payload_of, read_merchant_order

NUMBER = "36678900123"
ORDER_ID = f"MO{NUMBER}"
PAYMENT = 118000000101
Json = dict[str, Any]


def number(text: str) -> str:
    """A text that `raw` writes as a JSON number with these very digits."""
    return f"#number#{text}"


def raw(value: object) -> bytes:
    return re.sub(r'"#number#([^"]*)"', r"\1", json.dumps(value)).encode()


def document(value: object) -> JsonDocument:
    return parse_json(raw(value))


def payment(status: str = "approved", of: str = "50.00", payment_id: int = PAYMENT, **fields: Any) -> Json:
    """One attempt; approved unless said otherwise."""
    details = {"approved": "accredited", "rejected": "cc_rejected_insufficient_amount", "refunded": "refunded"}
    return {
        "id": payment_id,
        "status": status,
        "status_detail": details.get(status, status),
        "transaction_amount": number(of),
        "transaction_amount_refunded": 0,
        "currency_id": "ARS",
        "payment_method_id": "visa",
        "payment_type_id": "credit_card",
        "installments": 1,
        "date_created": "2026-09-14T10:02:00.000-04:00",
        "date_last_updated": "2026-09-14T10:02:30.000-04:00",
        "order": {"id": NUMBER, "type": "mercadopago"},
        "refunds": [],
    } | fields


def refund(of: str = "50.00", refund_id: int = 2000000001, status: str = "approved", **fields: Any) -> Json:
    return {
        "id": refund_id,
        "payment_id": PAYMENT,
        "amount": number(of),
        "status": status,
        "date_created": "2026-09-14T11:00:00.000-04:00",
    } | fields


def merchant_order(
    status: str = "opened", order_status: str | None = None, *, of: str = "50.00", payments: Any = (), **fields: Any
) -> Json:
    """A merchant order for `of` that lists these payments."""
    values: Json = {
        "id": int(NUMBER),
        "status": status,
        "external_reference": "venta-1",
        "collector": {"id": 2100457788, "nickname": "SHOP"},
        "site_id": "MLA",
        "total_amount": number(of),
        "payments": [{"id": one["id"], "status": one["status"]} for one in payments],
        "date_created": "2026-09-14T10:01:00.000-04:00",
        "last_updated": "2026-09-14T10:02:00.000-04:00",
    }
    return values | ({} if order_status is None else {"order_status": order_status}) | fields


def sale(order: Json, *payments: Json, refunds: Mapping[str, object] | None = None) -> ReadOrder:
    """The sale as the client reads it; `refunds` are what is told of a payment that does not carry them."""
    listed = [document(one) for one in payments]
    told = {
        payment_id: document((refunds or {})[payment_id])
        for one, payment_id in zip(listed, listed_payments(object_of(document(order))), strict=True)
        if needs_refunds(object_of(one))
    }
    return read_merchant_order(payload_of(document(order), listed, told).encode(), ORDER_ID)


def object_of(read: JsonDocument) -> Json:
    assert isinstance(read.value, dict)
    return read.value


def sold(status: str, order_status: str | None, *payments: Json, of: str = "50.00", **fields: Any) -> ReadOrder:
    """A merchant order in these words, with these payments."""
    return sale(merchant_order(status, order_status, of=of, payments=payments, **fields), *payments)
