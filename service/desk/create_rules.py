"""What `POST /v1/orders` takes, checked before anything leaves (fact sheet of the Orders API, §2). Pure.

Where the sheet is silent or contradicts itself this is tolerant, and Mercado Pago judges. The body that leaves is the
caller's own: nothing is added, left out, reordered or rounded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from service.desk.amounts import Price, times
from service.desk.card_data import has_card_data, without_card_tokens
from service.desk.common_fields import DEFAULT_LIFE
from service.desk.errors import Fault, InvalidRequest
from service.desk.fields import Faults, Members, check_sendable, entries, member
from service.desk.online import online_order
from service.desk.point import point_order
from service.desk.qr import qr_order
from service.mercadopago.json_text import dumps
from service.mercadopago.reader import parse_duration
from service.orders.money import plain, total_of

__all__ = ["CheckedCreate", "check_create", "without_card_tokens"]

_SHAPES: Mapping[str, Callable[[str | None], Members]] = {
    "qr": qr_order,
    "point": point_order,
    "online": online_order,
}
_PLACE = {"qr": ("config", "qr", "external_pos_id"), "point": ("config", "point", "terminal_id")}


@dataclass(frozen=True, slots=True)
class CheckedCreate:
    """A create body that may leave.

    `body` is the caller's own object as JSON text, the same for the same object. `amount` is the order's total.
    `external_reference` is there for QR and Point. `point_of_sale` is `external_pos_id` of a QR, `terminal_id` of a
    Point. `expires_after` counts from the creation; None where nothing says when (online). `has_card_token`: `body`
    must pass through `without_card_tokens` before it is kept for good.
    """

    type: str
    external_reference: str | None
    amount: Decimal
    point_of_sale: str | None
    expires_after: timedelta | None
    body: str
    has_card_token: bool


def check_create(order: object, *, currency: str | None) -> CheckedCreate:
    """Checks Mercado Pago's own create body. `currency` (ISO 4217) is the account's, None where it is not known.

    Raises `InvalidRequest` with every fault at once (the first hundred), and nothing else, whatever `order` is.
    """
    faults = Faults()
    if not isinstance(order, dict):
        raise InvalidRequest([Fault("order", "must be an object: Mercado Pago's own create body")])
    kind = order.get("type")
    if isinstance(kind, str) and kind in _SHAPES:
        _SHAPES[kind](currency).check(order, "order", faults)
        amount = _check_sums(order, currency, faults)
    else:
        faults.add("order.type", f"must be one of {', '.join(_SHAPES)}")
        amount = None
    check_sendable(order, "order", faults)
    faults.raise_any()
    assert isinstance(kind, str)
    assert amount is not None
    reference = order.get("external_reference")
    place = member(order, *_PLACE[kind]) if kind in _PLACE else None
    return CheckedCreate(
        type=kind,
        external_reference=reference if isinstance(reference, str) else None,
        amount=amount,
        point_of_sale=place if isinstance(place, str) else None,
        expires_after=_expires_after(kind, order),
        body=dumps(order),
        has_card_token=has_card_data(order),
    )


def _check_sums(order: dict[str, object], currency: str | None, faults: Faults) -> Decimal | None:
    """The order's total. Payments, items and the total must agree, as far as they are given and can be read.

    What is said nowhere to belong to a sum or not (cash with the purchase, taxes, shipping) makes no fault.
    """
    price = Price(currency, one_decimal=True)
    payments = entries(member(order, "transactions", "payments"))
    paid = _sum([price.read(member(payment, "amount")) for payment in payments])
    total = price.read(order["total_amount"]) if "total_amount" in order else paid
    if total is None or member(order, "transactions", "cash_outs"):
        return total
    if paid is not None and total != paid:
        faults.add("order.total_amount", f"must be the sum of the payments, {plain(paid)}")
    items = entries(order.get("items"))
    due = _sum([_item_total(item, currency) for item in items])
    if due is not None and total != due and not order.get("taxes") and not order.get("shipment"):
        faults.add("order.items", f"come to {plain(due)}; they must come to the total, {plain(total)}")
    return total


def _item_total(item: object, currency: str | None) -> Decimal | None:
    price = Price(currency, one_decimal=True, zero=True).read(member(item, "unit_price"))
    quantity = member(item, "quantity")
    if price is None or isinstance(quantity, bool) or not isinstance(quantity, int) or quantity < 1:
        return None
    return times(price, quantity)


def _sum(amounts: list[Decimal | None]) -> Decimal | None:
    """Their sum; None where there are none, or one cannot be read."""
    return total_of(amounts) if amounts and None not in amounts else None


def _expires_after(kind: str, order: dict[str, object]) -> timedelta | None:
    given = parse_duration(order.get("expiration_time"))
    if given is not None:
        return given
    if kind != "online":
        return DEFAULT_LIFE
    lives = [
        parse_duration(member(payment, "expiration_time"))
        for payment in entries(member(order, "transactions", "payments"))
    ]
    return max((life for life in lives if life is not None), default=None)
