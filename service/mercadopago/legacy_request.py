"""Pure: what is sent to put an order on a point of sale's printed QR (legacy fact sheet, §1 and §2).

The caller always speaks V1, the shape that integrators know; the second generation's body is made from it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Final

from service.mercadopago.json_text import dumps
from service.orders.money import MAX_DIGITS, parse_amount, plain, total_of

DEFAULT_TTL_SECONDS: Final = 600
"""How long the provider keeps a V1 order that was put without `X-Ttl-Store-Preference`."""

_LONGEST_TITLE = 256
_OFFSET = timezone(timedelta(hours=-4))
_EXACT = Context(prec=3 * MAX_DIGITS)


def order_body_v2(v1_body: Mapping[str, object], *, now: datetime, ttl_seconds: int | None = None) -> str:
    """The V2 body, as JSON text with amounts as numbers, of a V1 body as `parse_json` reads it.

    V2 wants a title and a description, which V1 has only in its items; the totals, which V1 leaves out; and a moment
    of expiry instead of a lifetime: `now` + `ttl_seconds` (the default lifetime of V1 where None). `currency_id` and
    `picture_url` of an item have no place in V2. Raises `ValueError` where an item's price or quantity is none.
    """
    listed = v1_body.get("items")
    items = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
    converted = [_item(item) for item in items]
    title = _first_text(v1_body.get("title"), *(item.get("title") for item in items), v1_body.get("external_reference"))
    body: dict[str, object] = {
        "external_reference": v1_body.get("external_reference"),
        "title": title,
        "description": _first_text(v1_body.get("description"), *(item.get("description") for item in items), title),
        "notification_url": v1_body.get("notification_url"),
        "expiration_date": _expiration(now, ttl_seconds),
        "total_amount": _number(total_of(total for _, total in converted)),
        "items": [item for item, _ in converted],
    }
    sponsor_id = v1_body.get("sponsor_id")
    if sponsor_id is not None:
        body["sponsor"] = {"id": sponsor_id}
    return dumps({name: value for name, value in body.items() if value is not None})


def _item(item: Mapping[str, object]) -> tuple[dict[str, object], Decimal]:
    unit_price = parse_amount(item.get("unit_price"))
    quantity = item.get("quantity")
    if isinstance(quantity, bool) or not isinstance(quantity, int):
        raise ValueError("the quantity of an item must be a whole number")  # noqa: TRY004 - one kind of error
    total = _EXACT.multiply(unit_price, Decimal(quantity))
    converted = {
        "sku_number": item.get("id"),
        "category": item.get("category_id"),
        "title": item.get("title"),
        "description": item.get("description"),
        "unit_price": _number(unit_price),
        "quantity": quantity,
        "unit_measure": item.get("unit_measure") or "unit",
        "total_amount": _number(total),
    }
    return {name: value for name, value in converted.items() if value is not None}, total


def _number(amount: Decimal) -> Decimal:
    """`amount` as it is written without an exponent."""
    return Decimal(plain(amount))


def _expiration(now: datetime, ttl_seconds: int | None) -> str:
    """`2020-08-22T16:34:56.559-04:00`, as the provider writes it."""
    at = now + timedelta(seconds=DEFAULT_TTL_SECONDS if ttl_seconds is None else ttl_seconds)
    return at.astimezone(_OFFSET).isoformat(timespec="milliseconds")


def _first_text(*values: object) -> str | None:
    return next((value[:_LONGEST_TITLE] for value in values if isinstance(value, str) and value.strip()), None)
