"""What `POST /v1/orders` takes for a QR at a point of sale (fact sheet of the Orders API, §2.1). Pure."""

from datetime import timedelta

from service.desk.amounts import Price
from service.desk.common_fields import (
    REFERENCE,
    common,
    in_store_items,
    life_up_to,
    no_discount_on_categories,
    one_payment,
)
from service.desk.fields import Many, Members, Text

LONGEST_LIFE = timedelta(hours=3600)

CONFIG = Members(
    {
        "qr": Members(
            {"external_pos_id": Text(), "mode": Text(choices=("static", "dynamic", "hybrid"))}, ("external_pos_id",)
        )
    },
    needed=("qr",),
)


def qr_order(currency: str | None) -> Members:
    """The shape of a create body of type `qr`.

    `total_amount` may be absent (the reference's table allows it; practice is said to need it): Mercado Pago judges.
    """
    price = Price(currency)
    return Members(
        {
            **common(price),
            "external_reference": REFERENCE,
            "expiration_time": life_up_to(LONGEST_LIFE, "PT3600H"),
            "config": CONFIG,
            "items": in_store_items(price),
            "discounts": _discounts(price),
            "transactions": one_payment(price),
        },
        needed=("external_reference", "config", "transactions"),
        rejected={
            "notification_url": "messages go to the webhook of the application's panel",
            "title": "use description, or the items' titles",
        },
        rule=no_discount_on_categories,
    )


def _discounts(price: Price) -> Members:
    discount = Members(
        {
            "type": Text(choices=("debit_card", "credit_card", "account_money", "prepaid_card")),
            "new_total_amount": price,
        },
        needed=("type", "new_total_amount"),
    )
    return Members({"payment_methods": Many(discount, "at most 4 discounts", most=4)})
