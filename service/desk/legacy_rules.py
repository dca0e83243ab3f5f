"""What the legacy attended QR takes, checked before anything leaves (legacy fact sheet, §1). Pure.

The caller gives the V1 body whichever generation is spoken. Amounts are JSON numbers there: `int` or `Decimal`, never a
float, so every digit is kept. Members that the sheet does not name are passed on untouched.
"""

from dataclasses import dataclass
from decimal import Decimal

from service.desk.amounts import NumberPrice, times
from service.desk.fields import Faults, Many, Members, Text, Whole, check_sendable, entries, member
from service.mercadopago.json_text import dumps
from service.orders.money import total_of

LONGEST_TTL_SECONDS = 86_400
"""Ours: the sheet gives no bound (its example is 180, the default 600). A day is more than a buyer stands at a till."""

_PLACE = Text(longest=40, pattern="[A-Za-z0-9_-]+", allowed="made of letters without accents, digits, - and _ alone")


@dataclass(frozen=True, slots=True)
class CheckedLegacy:
    """A V1 body that may leave: `body` is the caller's own object as JSON text, with every digit of its numbers.

    `external_reference` is all there is to find the sale by until the buyer scans the code.
    """

    external_reference: str
    amount: Decimal
    body: str


def check_legacy(order: object, *, currency: str | None, ttl_seconds: object = None) -> CheckedLegacy:
    """Checks a V1 body. `currency` (ISO 4217) is the account's; where it is unknown, that of the items counts.

    `ttl_seconds`: a whole number from 1 to 86,400, None for Mercado Pago's own 600. Raises `InvalidRequest` with every
    fault at once, and nothing else, whatever is given.
    """
    faults = Faults()
    _order_shape(_currency_of(order, currency)).check(order, "order", faults)
    check_sendable(order, "order", faults)
    if ttl_seconds is not None:
        Whole(low=1, high=LONGEST_TTL_SECONDS).check(ttl_seconds, "ttl_seconds", faults)
    faults.raise_any()
    reference = member(order, "external_reference")
    assert isinstance(reference, str)
    return CheckedLegacy(
        external_reference=reference,
        amount=total_of(_item_total(item) for item in entries(member(order, "items"))),
        body=dumps(order),
    )


def check_point_of_sale(external_pos_id: object) -> str:
    """The point of sale's `external_pos_id`, which becomes part of a path at Mercado Pago: at most 40 characters.

    Documented as alphanumeric (legacy fact sheet, §6); `-` and `_` are let through. Raises `InvalidRequest`.
    """
    faults = Faults()
    _PLACE.check(external_pos_id, "external_pos_id", faults)
    faults.raise_any()
    return str(external_pos_id)


def _order_shape(currency: str | None) -> Members:
    item = Members(
        {
            "title": Text(),
            "currency_id": Text(pattern=currency or "[A-Z]{3}", allowed=currency or "a currency like ARS"),
            "unit_price": NumberPrice(currency),
            "quantity": Whole(),
            "description": Text(shortest=0),
            "picture_url": Text(shortest=0),
        },
        needed=("title", "currency_id", "unit_price", "quantity"),
    )
    return Members(
        {
            "external_reference": Text(longest=64),
            "notification_url": Text(
                longest=248, pattern=r"https://[^\s/]\S*", allowed="an address that begins with https://"
            ),
            "items": Many(item, "at least one item", fewest=1),
            "sponsor_id": Whole(high=10**20),
        },
        needed=("external_reference", "items"),
    )


def _currency_of(order: object, currency: str | None) -> str | None:
    """The account's currency, else the first item's, so that all items must have the same."""
    if currency is not None:
        return currency
    named = member(order, "items", 0, "currency_id")
    return named if isinstance(named, str) and len(named) == 3 and named.isascii() and named.isupper() else None


def _item_total(item: object) -> Decimal | None:
    price, quantity = NumberPrice(None).read(member(item, "unit_price")), member(item, "quantity")
    return times(price, quantity) if price is not None and isinstance(quantity, int) else None
