"""What the API answers, field by field: the tables' column names, amounts as decimal strings, times in RFC 3339 UTC."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema


def amount_text(amount: Decimal) -> str:
    """Every digit and no exponent: `50.00`, `0.001`."""
    return format(amount, "f")


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC: `2026-11-05T12:00:00.25Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Amount = Annotated[
    Decimal,
    PlainSerializer(amount_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "examples": ["47.28"]}),
]
Instant = Annotated[
    datetime,
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-05T12:00:00Z"]}),
]
# JSON text of the database, handed on as it is: no number of the provider loses a digit on its way.
RawObject = Annotated[str, WithJsonSchema({"type": "object"})]
RawJson = Annotated[str, WithJsonSchema({})]


class Document(BaseModel):
    """A JSON object of the API. `RAW` names the fields that already are JSON text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RAW: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> str:
        """The object as JSON text, raw fields last."""
        text = self.model_dump_json(exclude=set(self.RAW))
        raw = "".join(f',"{name}":{getattr(self, name) or "null"}' for name in sorted(self.RAW))
        return f"{text[:-1]}{raw}}}"


class Problem(Document):
    """One wrong field."""

    field: str
    message: str


class ErrorBody(Document):
    """What went wrong: a stable code, and a sentence that says what to do."""

    code: str
    message: str
    details: list[Problem]


class ErrorDocument(Document):
    """The envelope of every answer that is no success."""

    error: ErrorBody


class Order(Document):
    """One order as a list shows it."""

    order_id: str
    account: str
    user_id: str | None
    type: str | None
    external_reference: str | None
    description: str | None
    status: str | None
    status_detail: str | None
    total_amount: Amount | None
    paid_amount: Amount
    refunded_amount: Amount
    currency: str | None
    country_code: str | None
    created_at: Instant | None
    updated_at: Instant | None
    expires_at: Instant | None
    fetched_at: Instant
    first_seen_at: Instant
    changed_at: Instant
    version: int


class Part(Document):
    """Something that hangs on an order; `vanished_at` is set while the provider no longer shows it."""

    order_id: str
    status: str | None
    amount: Amount | None
    currency: str | None
    first_seen_at: Instant | None
    vanished_at: Instant | None


class Payment(Part):
    """One payment of an order."""

    payment_id: str
    status_detail: str | None
    paid_amount: Amount | None
    refunded_amount: Amount | None
    tip_amount: Amount | None
    method_id: str | None
    method_type: str | None
    installments: int | None
    provider: str | None
    reference_id: str | None
    expires_at: Instant | None


class Refund(Part):
    """One refund of an order; `payment_id` names the payment (or cash-out) that it gives back."""

    refund_id: str
    payment_id: str | None
    status_detail: str | None
    reference_id: str | None


class Chargeback(Part):
    """One chargeback of an order."""

    chargeback_id: str
    payment_id: str | None
    case_id: str | None


class CashOut(Part):
    """Cash handed to a buyer together with a QR purchase."""

    cash_out_id: str
    status_detail: str | None
    reference_id: str | None


class Discrepancy(Document):
    """Something that does not add up."""

    id: int
    order_id: str
    account: str
    rule: str
    subject_id: str
    severity: str
    amount_at_stake: Amount | None
    currency: str | None
    expected: str
    actual: str
    explanation: str
    opened_at: Instant
    resolved_at: Instant | None
    acknowledged_at: Instant | None
    note: str | None


class SyncState(Document):
    """Whether a look at the order is owed; `fetched >= requested` means caught up."""

    order_id: str
    account: str
    trust: int
    requested: int
    fetched: int
    due_at: Instant | None
    leased_until: Instant | None
    attempts: int
    troubles: int
    failing_since: Instant | None
    last_error: str | None
    quarantined_at: Instant | None
    quarantine_reason: str | None
    cause: str | None
    notification_id: int | None


class OrderDetail(Order):
    """One order with its parts. `as_of` is the time asked for; what was not recorded per version is null then."""

    RAW: ClassVar[frozenset[str]] = frozenset({"payload"})

    as_of: Instant | None = None
    payload_altered: bool | None
    payload: RawObject
    payments: list[Payment]
    refunds: list[Refund]
    chargebacks: list[Chargeback]
    cash_outs: list[CashOut]
    discrepancies: list[Discrepancy] = Field(description="the open ones")
    sync: SyncState | None


class Notification(Document):
    """One notification as it was received; `copies` counts deliveries, the first included."""

    RAW: ClassVar[frozenset[str]] = frozenset({"query", "headers", "body"})

    id: int
    account: str
    topic: str | None
    action: str | None
    resource_id: str | None
    order_id: str | None
    verified: bool
    verification: str
    manifest: str | None
    secret_index: int | None
    ts_age_seconds: float | None
    body_id_differs: bool
    refused: bool
    simulation: bool
    received_at: Instant
    last_received_at: Instant
    copies: int
    path: str
    body_altered: bool
    query: RawJson
    headers: RawJson
    body: RawJson | None


class DueOrder(Document):
    """An order that was marked due."""

    order_id: str
    account: str
    status: Literal["due"] = "due"


class OrdersPage(Document):
    """One page of orders."""

    data: list[Order]
    next_cursor: str | None


class DiscrepanciesPage(Document):
    """One page of discrepancies."""

    data: list[Discrepancy]
    next_cursor: str | None


class NotificationsPage(Document):
    """One page of notifications."""

    data: list[Notification]
    next_cursor: str | None


class QuarantinePage(Document):
    """One page of orders in quarantine."""

    data: list[SyncState]
    next_cursor: str | None


class AliveDocument(Document):
    """Whether this process's loops make progress."""

    status: Literal["alive", "stuck"]
    loops: dict[str, Any]


class ReadyDocument(Document):
    """Whether requests should be sent here."""

    status: Literal["ready", "not_ready", "draining"]
    checks: dict[str, bool]


D = TypeVar("D", bound=Document)


def documents(model: type[D], rows: Iterable[Any]) -> list[D]:
    """Rows of a query whose columns are the model's fields."""
    return [model(**row) for row in rows]


def page_json(rows: Iterable[Document], next_cursor: str | None) -> str:
    """A page: `{"data": […], "next_cursor"}`."""
    data = ",".join(row.to_json() for row in rows)
    return f'{{"data":[{data}],"next_cursor":{json.dumps(next_cursor)}}}'
