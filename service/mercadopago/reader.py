"""From the answer of `GET /v1/orders/{id}` to an `OrderSnapshot`, tolerant of everything but unclear money.

The provider's documents contradict each other about types, so a string may be a number, a list may be a lone object,
and all but the order's id may be absent (fact sheet of the Orders API, §3). What is not money and cannot be read is
left out of the snapshot and stays in the payload. Money is never guessed: an amount that is no number, a payment
without an id, two entries that tell different things under one id make the order unreadable.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TypeVar

from service.mercadopago.errors import NonsenseAnswer, UnreadableOrder
from service.mercadopago.json_text import NotJson, canonical_hash, parse_json
from service.orders.money import currency_for_country, parse_amount
from service.orders.snapshot import CashOut, Chargeback, OrderSnapshot, Payment, Refund

MAX_BODY_TEXT = 1024 * 1024
"""Characters of an unreadable answer that are kept for the quarantine."""

# Texts end up in B-tree indexes, which hold no entry of more than 2,704 bytes.
_MAX_TEXT = 255
_MAX_INT4 = 2**31 - 1

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,30}))?"
    r"(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2}))"
)
_NUMBER = r"([0-9]{1,9}(?:[.,][0-9]{1,9})?)"
_DURATION = re.compile(rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?")

Fields = dict[str, object]
_Part = TypeVar("_Part", Payment, Refund, Chargeback, CashOut)


@dataclass(frozen=True, slots=True)
class ReadOrder:
    """`text` is the whole answer, fit for `jsonb`; `payload_hash` tells whether its content changed; `altered` whether
    `jsonb` made replacements necessary.
    """

    snapshot: OrderSnapshot
    text: str
    payload_hash: bytes
    altered: bool


def read_order(raw: bytes, expected_order_id: str) -> ReadOrder:
    """Reads the body of a 200.

    Raises `NonsenseAnswer` where it is no JSON object or bears another order's id, which says nothing about the order
    that was asked for; `UnreadableOrder` where it is an object that cannot be read as an order.
    """
    try:
        document = parse_json(raw)
    except NotJson as error:
        raise NonsenseAnswer(f"the answer is not JSON: {error}", status=200) from None
    if not isinstance(document.value, dict):
        raise NonsenseAnswer("the answer is JSON, but no object", status=200)
    try:
        order_id = _id(document.value, "order")
        if order_id != expected_order_id:
            raise NonsenseAnswer("the answer bears another order's id", outcome="foreign_order", status=200)
        snapshot = _snapshot(order_id, document.value)
    except UnreadableOrder as error:
        error.body = body_text(raw)
        raise
    return ReadOrder(snapshot, document.text, canonical_hash(document.value), document.altered)


def body_text(raw: bytes) -> str:
    """The bytes as text that Postgres takes, at most `MAX_BODY_TEXT` characters."""
    return raw[: 4 * MAX_BODY_TEXT].decode("utf-8", "replace").replace("\x00", "\ufffd")[:MAX_BODY_TEXT]


def parse_time(value: object) -> datetime | None:
    """An RFC 3339 time with any number of fraction digits (cut to microseconds), in UTC; None for anything else.

    A time without an offset is nobody's time, and is None as well.
    """
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    fraction, _utc, sign, offset_hours, offset_minutes = match.group(7, 8, 9, 10, 11)
    microsecond = int((fraction or "").ljust(6, "0")[:6])
    try:
        zone = UTC
        if sign:
            offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
            zone = timezone(offset if sign == "+" else -offset)
        leap = second == 60
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, microsecond, zone)
        return (moment + timedelta(seconds=leap)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_duration(value: object) -> timedelta | None:
    """An ISO 8601 duration of weeks, days, hours, minutes and seconds; None for anything else.

    Years and months have no fixed length, so they are no duration here.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()) or match.group(0).endswith("T"):
        return None
    weeks, days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups())
    try:
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return None


def _snapshot(order_id: str, order: Fields) -> OrderSnapshot:
    transactions = _money_object(order.get("transactions"), "transactions")
    payments = _parts(transactions, "payments", _payment, lambda payment: payment.payment_id)
    created_at = parse_time(order.get("created_date"))
    country_code = _text(order.get("country_code"))
    return OrderSnapshot(
        order_id=order_id,
        type=_text(order.get("type")),
        status=_text(order.get("status")),
        status_detail=_text(order.get("status_detail")),
        user_id=_text(order.get("user_id")),
        external_reference=_text(order.get("external_reference")),
        description=_text(order.get("description")),
        total_amount=_amount(order, "total_amount", "order"),
        currency=_currency(order, country_code),
        country_code=country_code,
        created_at=created_at,
        updated_at=parse_time(order.get("last_updated_date")),
        expires_at=_expires_at(created_at, order.get("expiration_time"), payments),
        payments=payments,
        refunds=_parts(transactions, "refunds", _refund, lambda refund: refund.refund_id),
        chargebacks=_parts(transactions, "chargebacks", _chargeback, lambda chargeback: chargeback.chargeback_id),
        cash_outs=_parts(transactions, "cash_outs", _cash_out, lambda cash_out: cash_out.cash_out_id),
    )


def _payment(fields: Fields, where: str) -> Payment:
    method = _object(fields.get("payment_method"))
    return Payment(
        payment_id=_id(fields, where),
        status=_text(fields.get("status")),
        status_detail=_text(fields.get("status_detail")),
        amount=_amount(fields, "amount", where),
        paid_amount=_amount(fields, "paid_amount", where),
        refunded_amount=_amount(fields, "refunded_amount", where),
        tip_amount=_amount(fields, "tip_amount", where),
        method_id=_text(method.get("id")),
        method_type=_text(method.get("type")),
        installments=_count(method.get("installments")),
        provider=_text(fields.get("provider")),
        reference_id=_text(fields.get("reference_id")),
        expires_at=parse_time(fields.get("date_of_expiration")),
    )


def _refund(fields: Fields, where: str) -> Refund:
    return Refund(
        refund_id=_id(fields, where),
        transaction_id=_text(fields.get("transaction_id")),
        amount=_amount(fields, "amount", where),
        status=_text(fields.get("status")),
        status_detail=_text(fields.get("status_detail")),
        reference_id=_text(fields.get("reference_id")),
    )


def _chargeback(fields: Fields, where: str) -> Chargeback:
    return Chargeback(
        chargeback_id=_id(fields, where),
        transaction_id=_text(fields.get("transaction_id")),
        amount=_amount(fields, "amount", where),
        status=_text(fields.get("status")),
        case_id=_text(fields.get("case_id")),
    )


def _cash_out(fields: Fields, where: str) -> CashOut:
    return CashOut(
        cash_out_id=_id(fields, where),
        amount=_amount(fields, "amount", where),
        status=_text(fields.get("status")),
        status_detail=_text(fields.get("status_detail")),
        reference_id=_text(fields.get("reference_id")),
    )


def _parts(
    transactions: Fields, name: str, read: Callable[[Fields, str], _Part], id_of: Callable[[_Part], str]
) -> tuple[_Part, ...]:
    """The entries of one list, in order. Empty ones say nothing (`taxes` comes as `[{}]`); exact repeats count once.

    An entry listed twice with different content cannot be told from two entries, so it is no money to reckon with.
    """
    listed = transactions.get(name)
    entries: Iterable[object] = listed if isinstance(listed, list) else (listed,)
    parts: dict[str, _Part] = {}
    for index, entry in enumerate(entries):
        if entry is None or entry == {}:
            continue
        where = f"transactions.{name}[{index}]"
        if not isinstance(entry, dict):
            raise UnreadableOrder(f"{where} is no object")
        part = read(entry, where)
        first = parts.setdefault(id_of(part), part)
        if first is not part and first != part:
            raise UnreadableOrder(f"{where} repeats an id with other content")
    return tuple(parts.values())


def _id(fields: Fields, where: str) -> str:
    text = _text(fields.get("id"))
    if not text:
        raise UnreadableOrder(f"{where} has no id")
    return text


def _amount(fields: Fields, name: str, where: str) -> Decimal | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        return parse_amount(value)
    except ValueError as error:
        # What comes after this comma quotes the payload, which belongs into no log.
        raise UnreadableOrder(f"{where}.{name}: {str(error).partition(', not ')[0]}") from None


def _money_object(value: object, where: str) -> Fields:
    """An object that holds money: absent, null and the empty list are "none"; a list of one object is that object."""
    if value is None or value == []:
        return {}
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise UnreadableOrder(f"{where} is no object")
    return value


def _object(value: object) -> Fields:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    """A string, or a number as its text; anything else says nothing. An overlong one is cut and its hash put behind."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) > _MAX_TEXT:
        # Still the same text for the same value and no other, so ids that refer to each other keep doing so.
        return f"{text[:160]}…{hashlib.sha256(text.encode()).hexdigest()}"
    return text


def _count(value: object) -> int | None:
    text = _text(value)
    if text is None or len(text) > 10 or not (text.isascii() and text.isdigit()):
        return None
    count = int(text)
    return count if count <= _MAX_INT4 else None


def _currency(order: Fields, country_code: str | None) -> str | None:
    """The payload's own currency, else its country's, else its site's. A webhook's name for it is accepted, too."""
    for name in ("currency", "currency_id"):
        stated = (_text(order.get(name)) or "").strip()
        if stated:
            return stated.upper() if len(stated) == 3 and stated.isascii() else stated
    return currency_for_country(country_code) or currency_for_country(_text(order.get("site_id")))


def _expires_at(created_at: datetime | None, expiration_time: object, payments: tuple[Payment, ...]) -> datetime | None:
    lifetime = parse_duration(expiration_time)
    if created_at is not None and lifetime is not None:
        try:
            return created_at + lifetime
        except OverflowError:
            return None
    return max((payment.expires_at for payment in payments if payment.expires_at is not None), default=None)
