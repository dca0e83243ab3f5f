"""What `POST /v1/orders` takes for a Point terminal (fact sheet of the Orders API, §2.2). Pure."""

from datetime import timedelta

from service.desk.amounts import Price
from service.desk.common_fields import REFERENCE, common, in_store_items, life_up_to, one_payment
from service.desk.fields import Members, Text, Whole

LONGEST_LIFE = timedelta(hours=3)

CONFIG = Members(
    {
        "point": Members(
            {
                "terminal_id": Text(),
                "print_on_terminal": Text(choices=("seller_ticket", "no_ticket")),
                "ticket_number": Text(),
            },
            needed=("terminal_id",),
        ),
        "payment_method": Members(
            {
                "default_type": Text(choices=("credit_card", "debit_card", "qr")),
                # The reference shows a text, other pages a number.
                "default_installments": Whole(or_text=True),
            }
        ),
    },
    needed=("point",),
)


def point_order(currency: str | None) -> Members:
    """The shape of a create body of type `point`. One decimal will do: a guide says "up to two"."""
    price = Price(currency, one_decimal=True)
    return Members(
        {
            **common(price),
            "external_reference": REFERENCE,
            "expiration_time": life_up_to(LONGEST_LIFE, "PT3H"),
            "config": CONFIG,
            "items": in_store_items(price),
            "transactions": one_payment(price),
        },
        needed=("external_reference", "config", "transactions"),
    )
