"""Pure: an applied order as the rows that `queries.sql` writes, and stored rows back into what decisions need."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from asyncpg import Record

from service.mercadopago.reader import parse_time
from service.orders.asked import AskedCommand
from service.orders.fence import Stamp
from service.orders.history import from_json, to_json
from service.orders.rules import Finding
from service.orders.snapshot import OrderSnapshot
from service.sync.changes import Applied, DiscrepancyChange, OpenDiscrepancy, StoredOrder


def to_json_text(rows: object) -> str:
    """JSON for `jsonb_to_recordset`: amounts as strings (Postgres casts them to numeric), times as ISO 8601."""
    return json.dumps(rows, default=_plain, ensure_ascii=False)


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no JSON form for {type(value).__name__}")


def order_row(
    one: Applied, *, payload_hash: bytes, altered: bool, cause: str, notification_id: int | None
) -> dict[str, object]:
    """The `orders` row and its version, but for the payload, which travels as it came."""
    snapshot = one.snapshot
    return {
        "order_id": snapshot.order_id,
        "account": one.account,
        "user_id": snapshot.user_id,
        "type": snapshot.type,
        "external_reference": snapshot.external_reference,
        "description": snapshot.description,
        "status": snapshot.status,
        "status_detail": snapshot.status_detail,
        "total_amount": snapshot.total_amount,
        "currency": snapshot.currency,
        "country_code": snapshot.country_code,
        "paid_amount": one.paid_amount,
        "refunded_amount": one.refunded_amount,
        "is_sale": one.is_sale,
        "created_at": snapshot.created_at,
        "updated_at": snapshot.updated_at,
        "expires_at": snapshot.expires_at,
        "payload_hash": payload_hash,
        "payload_altered": altered,
        "history": to_json(one.history),
        "version": one.version,
        "claimed_at": one.stamp.claimed_at,
        "rules_due_at": one.rules_due_at,
        "cause": cause,
        "notification_id": notification_id,
        "event": event_data(one),
    }


def part_rows(snapshots: Iterable[OrderSnapshot]) -> tuple[list[dict[str, object]], ...]:
    """Rows of payments, refunds, chargebacks and cash-outs; of records that repeat an id the last one stands."""
    payments: dict[tuple[str, str], dict[str, object]] = {}
    refunds: dict[tuple[str, str], dict[str, object]] = {}
    chargebacks: dict[tuple[str, str], dict[str, object]] = {}
    cash_outs: dict[tuple[str, str], dict[str, object]] = {}
    for order in snapshots:
        common = {"order_id": order.order_id, "currency": order.currency}
        for position, payment in enumerate(order.payments):
            payments[order.order_id, payment.payment_id] = common | _fields(payment) | {"position": position}
        for position, refund in enumerate(order.refunds):
            refunds[order.order_id, refund.refund_id] = (
                common | _fields(refund) | {"position": position, "payment_id": refund.transaction_id}
            )
        for position, chargeback in enumerate(order.chargebacks):
            chargebacks[order.order_id, chargeback.chargeback_id] = (
                common | _fields(chargeback) | {"position": position, "payment_id": chargeback.transaction_id}
            )
        for position, cash_out in enumerate(order.cash_outs):
            cash_outs[order.order_id, cash_out.cash_out_id] = common | _fields(cash_out) | {"position": position}
    return tuple(list(rows.values()) for rows in (payments, refunds, chargebacks, cash_outs))


def _fields(record: Any) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__slots__}


def change_row(change: DiscrepancyChange, versions: Mapping[str, int]) -> dict[str, object]:
    """One row for `change_discrepancies`; `versions` are the versions that this batch stores."""
    return {
        "change": change.change,
        "id": change.id,
        "order_id": change.order_id,
        "account": change.account,
        "version": versions.get(change.order_id),
        **_fields(change.finding),
    }


def event_data(one: Applied) -> dict[str, object]:
    """What `order.changed` tells a follower: the money and the lifecycle, no payer and no card."""
    snapshot, stored = one.snapshot, one.stored
    return {
        "order_id": snapshot.order_id,
        "account": one.account,
        "version": one.version,
        "type": snapshot.type,
        "external_reference": snapshot.external_reference,
        "status": snapshot.status,
        "status_detail": snapshot.status_detail,
        "previous_status": stored.status if stored else None,
        "total_amount": snapshot.total_amount,
        "paid_amount": one.paid_amount,
        "refunded_amount": one.refunded_amount,
        "currency": snapshot.currency,
        "updated_at": snapshot.updated_at,
    }


def stored_order(row: Record) -> StoredOrder | None:
    """One row of `read_stored_orders`; None where the order is not stored, and only asked for."""
    if row["version"] is None:
        return None
    return StoredOrder(
        order_id=row["order_id"],
        account=row["account"],
        type=row["type"],
        external_reference=row["external_reference"],
        status=row["status"],
        status_detail=row["status_detail"],
        currency=row["currency"],
        paid_amount=row["paid_amount"],
        refunded_amount=row["refunded_amount"],
        is_sale=row["is_sale"],
        stamp=Stamp(row["updated_at"], row["claimed_at"]),
        payload_hash=row["payload_hash"],
        history=from_json(json.loads(row["history"]), refund_first_seen(row)),
        version=row["version"],
        first_seen_at=row["first_seen_at"],
        changed_at=row["changed_at"],
        rules_due_at=row["rules_due_at"],
        open_discrepancies=open_discrepancies(row),
        document_stamp=_document_stamp(row),
    )


def refund_first_seen(row: Record) -> dict[str, datetime]:
    """First sights of refunds, by refund id, of one row of `read_stored_orders`, stored or not."""
    first_seen = json.loads(row["refund_first_seen"]) if row["refund_first_seen"] else {}
    return {refund_id: datetime.fromisoformat(value) for refund_id, value in first_seen.items()}


def open_discrepancies(row: Record) -> tuple[OpenDiscrepancy, ...]:
    """What is open on the order of one row of `read_stored_orders`, stored or not."""
    open_rows = json.loads(row["open_discrepancies"]) if row["open_discrepancies"] else []
    return tuple(_open_discrepancy(row["order_id"], one) for one in open_rows)


def _document_stamp(row: Record) -> Stamp | None:
    if row["document_date"] is None:
        return None
    return Stamp(parse_time(json.loads(row["document_date"])), row["claimed_at"])


def _open_discrepancy(order_id: str, row: Mapping[str, Any]) -> OpenDiscrepancy:
    amount = row["amount_at_stake"]
    return OpenDiscrepancy(
        id=row["id"],
        order_id=order_id,
        account=row["account"],
        finding=Finding(
            rule=row["rule"],
            subject_id=row["subject_id"],
            severity=row["severity"],
            amount_at_stake=None if amount is None else Decimal(amount),
            currency=row["currency"],
            expected=row["expected"],
            actual=row["actual"],
            explanation=row["explanation"],
        ),
    )


def asked_commands(row: Record) -> tuple[AskedCommand, ...]:
    """What was asked here of the order of one row of `read_stored_orders`, stored or not."""
    if not row["commands"]:
        return ()
    return tuple(_asked_command(one) for one in json.loads(row["commands"], parse_float=Decimal))


def _asked_command(row: Mapping[str, Any]) -> AskedCommand:
    return AskedCommand(
        command_id=row["command_id"],
        kind=row["kind"],
        status=row["status"],
        asked_at=datetime.fromisoformat(row["asked_at"]),
        maybe_sent_at=_time(row["maybe_sent_at"]),
        accepted_at=_time(row["accepted_at"]),
        settled_at=_time(row["settled_at"]),
        payment_id=row["payment_id"],
        amount=None if row["amount"] is None else Decimal(row["amount"]),
        currency=row["currency"],
        reserved={payment_id: Decimal(amount) for payment_id, amount in row["reserved"].items()},
        refund_ids=tuple(row["refund_ids"]),
    )


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
