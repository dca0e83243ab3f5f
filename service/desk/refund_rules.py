"""What a refund may ask for here, and what is sent to Mercado Pago for it. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from service.desk.amounts import Price, amount_text
from service.desk.fields import Faults, Members, Text, member
from service.mercadopago.json_text import dumps
from service.orders.money import plain

_PAYMENT_ID = Text(longest=64, pattern="[A-Za-z0-9_-]+", allowed="a payment's id, as the order shows it")


class AskedRefund(NamedTuple):
    """No amount: everything that is left, of the payment or of the order. No payment: the only paid one's amount."""

    payment_id: str | None
    amount: Decimal | None


def check_refund(body: object, *, currency: str | None = None) -> AskedRefund:
    """Reads `{}` or an object of `payment_id` and `amount`; `amount` is a decimal string, as fine as `currency`.

    An unknown member is a fault: a misspelt `amount` must not become a refund of everything. Raises `InvalidRequest`
    with every fault at once, and nothing else.
    """
    price = Price(currency, one_decimal=True)
    faults = Faults()
    Members({"payment_id": _PAYMENT_ID, "amount": price}, only_known=True).check(body, "", faults)
    faults.raise_any()
    payment_id = member(body, "payment_id")
    return AskedRefund(payment_id if isinstance(payment_id, str) else None, price.read(member(body, "amount")))


def refund_body(reserved: Mapping[str, Decimal], *, total: bool, currency: str | None = None) -> str | None:
    """The body of `POST /v1/orders/{id}/refund` for what is reserved of each payment, by payment id.

    `total`: everything that is left, and nothing else reserves a part of it. Then no body is sent: a Point payment with
    a tip can be refunded in no other way (fact sheet of the Orders API, §7.2). Raises `ValueError` for an empty
    reservation and for amounts that two decimals, or none in a `currency` without cents, cannot express.
    """
    if not reserved:
        raise ValueError("a refund without a payment")
    if total:
        return None
    return dumps(
        {
            "transactions": [
                {"id": payment_id, "amount": amount_text(reserved[payment_id], currency)}
                for payment_id in sorted(reserved)
            ]
        }
    )


def legacy_refund_body(amount: Decimal | None) -> str:
    """The body of `POST /v1/payments/{id}/refunds`: an amount as a JSON number, `{}` for everything that is left.

    Source: legacy fact sheet, §5.
    """
    return "{}" if amount is None else f'{{"amount":{plain(amount)}}}'
