"""Pure: what the readers of the provider's documents share. Tolerant of types, strict about money.

A string may be a number, a list may be a lone object, and nearly everything may be absent (fact sheet of the Orders
API, §3). What is not money and cannot be read is None. Money is never guessed: an amount that is no number, a record
without an id, two entries that tell different things under one id make the order unreadable.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TypeVar

from service.mercadopago.errors import UnreadableOrder
from service.orders.money import parse_amount
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
Part = TypeVar("Part", Payment, Refund, Chargeback, CashOut)


@dataclass(frozen=True, slots=True)
class ReadOrder:
    """`text` is the whole answer, fit for `jsonb`; `payload_hash` tells whether its content changed; `altered` whether
    `jsonb` made replacements necessary.
    """

    snapshot: OrderSnapshot
    text: str
    payload_hash: bytes
    altered: bool


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


def parts_of(
    listed: object, where: str, read: Callable[[Fields, str], Part], name_of: Callable[[Part], str]
) -> tuple[Part, ...]:
    """The entries of one list, in order. Empty ones say nothing (`taxes` comes as `[{}]`); exact repeats count once.

    `where` names the list in errors, `name_of` gives a record's id. An entry listed twice with different content
    cannot be told from two entries, so it is no money to reckon with. Raises `UnreadableOrder`.
    """
    entries: Iterable[object] = listed if isinstance(listed, list) else (listed,)
    parts: dict[str, Part] = {}
    for index, entry in enumerate(entries):
        if entry is None or entry == {}:
            continue
        place = f"{where}[{index}]"
        if not isinstance(entry, dict):
            raise UnreadableOrder(f"{place} is no object")
        part = read(entry, place)
        first = parts.setdefault(name_of(part), part)
        if first is not part and first != part:
            raise UnreadableOrder(f"{place} repeats an id with other content")
    return tuple(parts.values())


def id_of(fields: Fields, where: str) -> str:
    """The record's `id` as text. Raises `UnreadableOrder` where it has none."""
    text = text_of(fields.get("id"))
    if not text:
        raise UnreadableOrder(f"{where} has no id")
    return text


def amount_of(fields: Fields, name: str, where: str) -> Decimal | None:
    """The amount under `name`, None where absent. Raises `UnreadableOrder` for what is no amount."""
    value = fields.get(name)
    if value is None:
        return None
    try:
        return parse_amount(value)
    except ValueError as error:
        # What comes after this comma quotes the payload, which belongs into no log.
        raise UnreadableOrder(f"{where}.{name}: {str(error).partition(', not ')[0]}") from None


def object_of(value: object) -> Fields:
    """An object, or the only one of a list; an empty one for anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str | None:
    """A string, or a number as its text; anything else says nothing. An overlong one is cut and its hash put behind."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) > _MAX_TEXT:
        # Still the same text for the same value and no other, so ids that refer to each other keep doing so.
        return f"{text[:160]}…{hashlib.sha256(text.encode()).hexdigest()}"
    return text


def count_of(value: object) -> int | None:
    """A whole number from 0 that fits an `integer` column; None for anything else."""
    text = text_of(value)
    if text is None or len(text) > 10 or not (text.isascii() and text.isdigit()):
        return None
    count = int(text)
    return count if count <= _MAX_INT4 else None


def stated_currency(value: object) -> str | None:
    """A currency code as stated, three letters in capitals; None where nothing is stated."""
    stated = (text_of(value) or "").strip()
    return (stated.upper() if len(stated) == 3 and stated.isascii() else stated) or None
