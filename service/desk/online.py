"""What `POST /v1/orders` takes for an online sale (fact sheet of the Orders API, §2.3). Pure.

Checked less than the sales in a shop: the sheet knows less of it, and its items have other members.
"""

from datetime import timedelta

from service.desk.amounts import Price
from service.desk.common_fields import common, life_up_to
from service.desk.fields import Anything, Faults, Many, Members, Text, Whole

# PT30M to P30D by the documentation, yet PT60S was accepted.
EXPIRATION = life_up_to(timedelta(days=30), "P30D")

_NAMES_OF_PAYERS = ("email", "customer_id", "id")


def online_order(currency: str | None) -> Members:
    """The shape of a create body of type `online`."""
    price = Price(currency, one_decimal=True)
    payment = Members(
        {
            "amount": price,
            "expiration_time": EXPIRATION,
            "payment_method": Members({"id": Text(), "type": Text(), "token": Text()}),
        },
        needed=("amount",),
    )
    item = Members({"unit_price": Price(currency, one_decimal=True, zero=True), "quantity": Whole()})
    payments = Many(payment, "one or two payments", fewest=1, most=2)
    return Members(
        {
            **common(price),
            "external_reference": Text(longest=64),
            "expiration_time": EXPIRATION,
            "processing_mode": Text(choices=("automatic", "manual")),
            "capture_mode": Text(choices=("automatic", "automatic_async", "manual")),
            "config": Anything(),
            "items": Many(item),
            "transactions": Members({"payments": payments}, needed=("payments",)),
            "payer": Members(rule=_has_a_name),
        },
        needed=("transactions", "payer"),
    )


def _has_a_name(payer: dict[str, object], path: str, faults: Faults) -> None:
    if not any(payer.get(name) for name in _NAMES_OF_PAYERS):
        faults.add(path, f"must have one of {', '.join(_NAMES_OF_PAYERS)}")
