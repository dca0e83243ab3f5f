"""What the legacy create calls accept, and what they answer to the rest (legacy fact sheet, §1 and §2). Pure."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from .clock import parse_time
from .in_store import DEFAULT_LIFE
from .money import CENT, ZERO, Json
from .schema import Invalid

LONGEST_TITLE = 256


def read_v1(body: Any) -> Decimal:
    """The total of a V1 order. Raises `Invalid`."""
    if not isinstance(body, dict) or not isinstance(body.get("items"), list):
        raise Invalid(400, "invalid_preference_body", "items must be an array")
    if not body["items"]:
        raise Invalid(400, "invalid_items", "items must not be empty")
    for name in ("external_reference", "notification_url"):
        if body.get(name) is not None and not isinstance(body[name], str):
            raise Invalid(400, "invalid_preference_body", f"{name} must be a string")
    if body.get("sponsor_id") is not None and type(body["sponsor_id"]) is not int:
        raise Invalid(400, "invalid_sponsor_id", "sponsor_id must be a number")
    return sum((_item_total(item, "invalid_items", "invalid_items") for item in body["items"]), ZERO)


def read_v2(body: Any) -> Decimal:
    """The total of a V2 order. Raises `Invalid`."""
    if not isinstance(body, dict):
        raise Invalid(400, "invalid_items", "the body must be an object")
    reference = body.get("external_reference")
    if not isinstance(reference, str) or not 0 < len(reference) <= 64:
        raise Invalid(400, "invalid_external_reference", "external_reference must be a string of 1 to 64 characters")
    for name in ("title", "description"):
        if not isinstance(body.get(name), str) or not 0 < len(body[name]) <= LONGEST_TITLE:
            raise Invalid(400, f"invalid_{name}", f"{name} is required")
    items = body.get("items")
    if not isinstance(items, list) or not items:
        raise Invalid(400, "invalid_items", "items must be an array with at least one item")
    due = ZERO
    for item in items:
        amount = _item_total(item, "invalid_items", "invalid_items.unit_price")
        if _amount(item.get("total_amount")) != amount:
            message = "items.total_amount must equal unit_price times quantity"
            raise Invalid(400, "invalid_items.total_amount", message)
        due += amount
    cash_out = body.get("cash_out")
    if cash_out is not None:
        extra = _amount(cash_out.get("amount")) if isinstance(cash_out, dict) else None
        if extra is None:
            raise Invalid(400, "invalid_cash_out", "cash_out.amount must be a number")
        due += extra
    if _amount(body.get("total_amount")) != due:
        raise Invalid(400, "invalid_total_amount", "total_amount must equal the sum of the items and the cash out")
    return due


def _item_total(item: Any, code: str, price_code: str) -> Decimal:
    if not isinstance(item, dict):
        raise Invalid(400, code, "every item must be an object")
    if not isinstance(item.get("title"), str) or not item["title"]:
        raise Invalid(400, code, "title of an item is required")
    price, quantity = _amount(item.get("unit_price")), item.get("quantity")
    if price is None or price <= ZERO:
        raise Invalid(400, price_code, "unit_price must be a positive number of at most 2 decimals")
    if type(quantity) is not int or quantity < 1:
        raise Invalid(400, code, "quantity must be a whole number from 1")
    return price * quantity


def _amount(value: Any) -> Decimal | None:
    """A JSON number of at most two decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    amount = Decimal(str(value))
    fits = amount.is_finite() and ZERO <= amount < 10**12 and amount == amount.quantize(CENT)
    return amount if fits else None


def read_refund(body: Json) -> Decimal | None:
    """The amount a refund of a payment wants; `None` for all that is left. Raises `Invalid`."""
    if body.get("amount") is None:
        return None
    amount = _amount(body["amount"])
    if amount is None or amount <= ZERO:
        raise Invalid(400, "bad_request", "amount must be a positive number of at most 2 decimals")
    return amount


def v1_expiry(header: str | None, now: datetime) -> datetime:
    """When a V1 order runs out, by its `X-Ttl-Store-Preference` in seconds. Raises `Invalid`."""
    if header is None:
        return now + DEFAULT_LIFE
    if not (header.isascii() and header.isdigit()) or int(header[:9]) == 0:
        raise Invalid(400, "invalid_preference_body", "X-Ttl-Store-Preference must be a number of seconds")
    return now + timedelta(seconds=int(header[:9]))


def v2_expiry(body: Json, now: datetime) -> datetime:
    """When a V2 order runs out, by its `expiration_date`. Raises `Invalid`."""
    if body.get("expiration_date") is None:
        return now + DEFAULT_LIFE
    try:
        at = parse_time(body["expiration_date"])
    except (TypeError, ValueError, OverflowError):
        at = now
    if at <= now:
        raise Invalid(400, "invalid_expiration_date", "expiration_date must be a time to come, with its offset")
    return at
