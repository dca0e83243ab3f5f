"""Rows put straight into the tables, so that what the API answers is held against SQL and nothing else."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from service.database.pool import Database

START = datetime(2026, 9, 14, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A time, `seconds` after the tests' beginning of time."""
    return START + timedelta(seconds=seconds)


def text(moment: datetime) -> str:
    """The same as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def order_id(number: int) -> str:
    return f"ORD{number:026d}"


async def insert(database: Database, table: str, **columns: Any) -> None:
    names = ", ".join(columns)
    places = ", ".join(f"${index}" for index in range(1, len(columns) + 1))
    await database.execute(f"insert into cuadre.{table} ({names}) values ({places})", *columns.values())


async def put_order(database: Database, number: int, **columns: Any) -> str:
    """An open QR order over 100.00 ARS, last updated `number` seconds after the beginning."""
    name = order_id(number)
    row: dict[str, Any] = {
        "order_id": name,
        "account": "default",
        "type": "qr",
        "external_reference": f"ref-{number}",
        "status": "created",
        "total_amount": Decimal("100.00"),
        "currency": "ARS",
        "updated_at": at(number),
        "payload": json.dumps({"id": name}),
        "payload_hash": b"",
        "version": 1,
        "claimed_at": at(number),
        "fetched_at": at(number),
        "first_seen_at": at(0),
        "changed_at": at(number),
    }
    await insert(database, "orders", **(row | columns))
    return name


async def put_version(database: Database, number: int, version: int, body: dict[str, Any], **columns: Any) -> None:
    row: dict[str, Any] = {
        "order_id": order_id(number),
        "version": version,
        "period": START.date().replace(day=1),
        "account": "default",
        "status": body.get("status"),
        "total_amount": Decimal(body.get("total_amount", "100.00")),
        "currency": body.get("currency"),
        "paid_amount": Decimal(0),
        "refunded_amount": Decimal(0),
        "updated_at": at(version),
        "claimed_at": at(version),
        "observed_at": at(version),
        "cause": "look",
        "payload": json.dumps(body),
    }
    await insert(database, "order_versions", **(row | columns))


async def put_discrepancy(database: Database, number: int, **columns: Any) -> None:
    row: dict[str, Any] = {
        "order_id": order_id(number),
        "account": "default",
        "rule": "refunds_exceed_paid",
        "subject_id": f"PAY{number}",
        "severity": "high",
        "amount_at_stake": Decimal("2.50"),
        "currency": "ARS",
        "expected": "at most 100.00",
        "actual": "102.50",
        "explanation": "More was given back than was paid.",
        "opened_at": at(number),
        "refreshed_at": at(number),
    }
    await insert(database, "discrepancies", **(row | columns))


async def put_notification(database: Database, number: int, **columns: Any) -> None:
    received = columns.get("received_at", at(number))
    row: dict[str, Any] = {
        "period": received.date().replace(day=1),
        "account": "default",
        "topic": "order",
        "action": "order.processed",
        "resource_id": order_id(number),
        "order_id": order_id(number),
        "verified": True,
        "verification": "valid",
        "received_at": received,
        "last_received_at": received,
        "copy_key": str(columns).encode() + bytes([number % 256]),
        "path": "/webhooks/mercadopago",
        "query": "[]",
        "headers": "[]",
        "body": "{}",
    }
    await insert(database, "notifications", **(row | columns))


async def put_fetch(database: Database, number: int, **columns: Any) -> None:
    row: dict[str, Any] = {
        "order_id": order_id(number),
        "claimed_at": at(number),
        "period": START.date().replace(day=1),
        "account": "default",
        "cause": "look",
        "outcome": "applied",
        "version": 1,
        "settled_at": at(number + 1),
    }
    await insert(database, "fetches", **(row | columns))


async def put_quarantined(database: Database, number: int, **columns: Any) -> None:
    row: dict[str, Any] = {
        "order_id": order_id(number),
        "account": "default",
        "quarantined_at": at(number),
        "quarantine_reason": "not_found",
        "last_error": "not_found: the provider knows no such order",
    }
    await insert(database, "sync", **(row | columns))
