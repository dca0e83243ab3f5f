"""Orders for the tests: a small reader of the provider's samples, and builders of one-payment orders."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from service.orders.history import EMPTY, History, remember
from service.orders.money import currency_for_country
from service.orders.rules import Finding, evaluate
from service.orders.snapshot import CashOut, Chargeback, OrderSnapshot, Payment, Refund

SAMPLES = Path(__file__).parents[2] / "fixtures" / "mercadopago"
ORDER_SAMPLES = sorted([*SAMPLES.glob("order-*.json"), *SAMPLES.glob("variants/order-*.json")])

NOW = datetime(2026, 9, 14, 15, 0, tzinfo=UTC)
ORDER_ID = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"


def amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def paid(payment_id: str = "PAY1", of: str = "50.00", **fields: Any) -> Payment:
    """A processed payment; `fields` replace anything of it."""
    values: dict[str, Any] = {"status": "processed", "amount": Decimal(of), "paid_amount": Decimal(of)} | fields
    return Payment(payment_id, **values)


def unpaid(payment_id: str = "PAY1", of: str = "50.00", status: str = "created", **fields: Any) -> Payment:
    values: dict[str, Any] = {"status": status, "amount": Decimal(of)} | fields
    return Payment(payment_id, **values)


def refund(
    refund_id: str = "REF1", of: str | None = "50.00", status: str = "processed", payment: str | None = "PAY1"
) -> Refund:
    return Refund(refund_id, transaction_id=payment, amount=amount(of), status=status)


def chargeback(chargeback_id: str = "CBK1", of: str = "50.00", status: str = "in_process") -> Chargeback:
    return Chargeback(chargeback_id, transaction_id="PAY1", amount=Decimal(of), status=status)


def order(status: str | None = "processed", *payments: Payment, **fields: Any) -> OrderSnapshot:
    """An order in ARS of `payments`; its `total_amount` is 50.00 unless given."""
    values: dict[str, Any] = {"type": "qr", "total_amount": Decimal("50.00"), "currency": "ARS"} | fields
    return OrderSnapshot(ORDER_ID, status=status, payments=payments, **values)


def folded(snapshots: Iterable[OrderSnapshot], every: timedelta = timedelta(minutes=1)) -> History:
    """The history of snapshots seen one after the other, the first at NOW."""
    history = EMPTY
    for place, snapshot in enumerate(snapshots):
        history = remember(history, snapshot, NOW + place * every)
    return history


def findings(*snapshots: OrderSnapshot, after: timedelta = timedelta(0)) -> tuple[Finding, ...]:
    """What the rules say of the last of `snapshots`, `after` the first was seen."""
    return evaluate(snapshots[-1], folded(snapshots), NOW + after)


def violations(*snapshots: OrderSnapshot, after: timedelta = timedelta(0)) -> set[tuple[str, str]]:
    return {(finding.rule, finding.subject_id) for finding in findings(*snapshots, after=after)}


def read_sample(path: Path) -> OrderSnapshot:
    """A sample of `GET /v1/orders/{id}` as a snapshot: just enough of a reader for well-formed samples."""
    data = json.loads(path.read_text())
    transactions = data["transactions"]
    created = _time(data["created_date"])
    return OrderSnapshot(
        order_id=data["id"],
        type=data["type"],
        status=data["status"],
        status_detail=data["status_detail"],
        external_reference=data["external_reference"],
        total_amount=amount(data.get("total_amount")),
        currency=data.get("currency") or currency_for_country(data["country_code"]),
        country_code=data["country_code"],
        created_at=created,
        updated_at=_time(data["last_updated_date"]),
        expires_at=created + timedelta(minutes=int(data["expiration_time"][2:-1]))
        if "expiration_time" in data
        else None,
        payments=tuple(_payment(payment) for payment in transactions["payments"]),
        refunds=tuple(
            Refund(item["id"], item["transaction_id"], amount(item["amount"]), item["status"])
            for item in transactions.get("refunds", ())
        ),
        chargebacks=tuple(
            Chargeback(item["id"], item["transaction_id"], amount(item["amount"]), item["status"])
            for item in transactions.get("chargebacks", ())
        ),
        cash_outs=tuple(CashOut(item["id"], amount(item["amount"])) for item in transactions.get("cash_outs", ())),
    )


def _payment(item: Mapping[str, str]) -> Payment:
    return Payment(
        item["id"],
        status=item["status"],
        amount=amount(item["amount"]),
        paid_amount=amount(item.get("paid_amount")),
        refunded_amount=amount(item.get("refunded_amount")),
        tip_amount=amount(item.get("tip_amount")),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"\.(\d+)Z", lambda match: f".{match[1]:0<6}+00:00", text))
