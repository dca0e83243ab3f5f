"""Made-up orders in the provider's shape. Amounts are strings, as the provider writes them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 9, 14, 12, 0, 0, tzinfo=UTC)


def order_id(number: int) -> str:
    """A well-formed order id."""
    return f"ORD{number:026d}"


def payment_id(number: int) -> str:
    return f"PAY{number:026d}"


def moment(seconds: float) -> str:
    """A provider time, `seconds` after the tests' beginning of time."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def payment(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": payment_id(number),
        "amount": "100.00",
        "status": "created",
        "status_detail": "ready_to_process",
    } | fields


def order(
    number: int, *, seconds: float = 0, payments: list[dict[str, Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    """An open QR order over 100.00 ARS, last updated `seconds` after the beginning."""
    body: dict[str, Any] = {
        "id": order_id(number),
        "type": "qr",
        "external_reference": f"ref-{number}",
        "total_amount": "100.00",
        "currency": "ARS",
        "country_code": "ARG",
        "user_id": "2100457788",
        "status": "created",
        "status_detail": "created",
        "created_date": moment(0),
        "last_updated_date": moment(seconds),
        "transactions": {"payments": payments if payments is not None else [payment(number)]},
    }
    return {key: value for key, value in (body | fields).items() if value is not ...}


def paid_order(number: int, *, seconds: float = 60, **fields: Any) -> dict[str, Any]:
    """The same, paid in full."""
    done = payment(number, status="processed", status_detail="accredited", paid_amount="100.00")
    return order(number, seconds=seconds, payments=[done], status="processed", status_detail="accredited", **fields)


def refunded_order(number: int, *amounts: str, seconds: float = 120, **fields: Any) -> dict[str, Any]:
    """The same, paid and given back in these amounts; consistent in itself."""
    total = sum(float(amount) for amount in amounts)
    full = total == 100
    state = ("refunded", "refunded") if full else ("processed", "partially_refunded")
    done = payment(
        number, status=state[0], status_detail=state[1], paid_amount="100.00", refunded_amount=f"{total:.2f}"
    )
    body = order(number, seconds=seconds, payments=[done], status=state[0], status_detail=state[1], **fields)
    body["transactions"]["refunds"] = [
        refund(number * 100 + index, number, amount) for index, amount in enumerate(amounts)
    ]
    return body


def refund(number: int, of_payment: int, amount: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"REF{number:026d}",
        "transaction_id": payment_id(of_payment),
        "amount": amount,
        "status": "processed",
    } | fields


def raw(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
