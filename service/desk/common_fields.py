"""What create bodies of the three types share (fact sheet of the Orders API, §2). Pure."""

from collections.abc import Mapping
from datetime import timedelta

from service.desk.amounts import Price
from service.desk.fields import Anything, Duration, Faults, Many, Members, Shape, Text, Whole, entries

SHORTEST_LIFE = timedelta(seconds=30)
DEFAULT_LIFE = timedelta(minutes=15)
"""How long a QR or Point order lives that does not say."""

REFERENCE = Text(longest=64, pattern="[A-Za-z0-9_-]+", allowed="made of letters without accents, digits, - and _ alone")
DESCRIPTION = Text(longest=150, shortest=0)

INTEGRATION_DATA = Members(
    {
        "platform_id": Text(),
        "integrator_id": Text(pattern="dev_.*", allowed="an id that begins with dev_"),
        "sponsor": Members({"id": Text()}),
    }
)

_LEGACY_ITEM = {
    "total_amount": "leave it out, unit_price and quantity say it",
    "currency_id": "leave it out, the account's country says it",
}


def common(price: Price) -> Mapping[str, Shape]:
    """Members of every create body, whatever its type."""
    return {
        "total_amount": price,
        "description": DESCRIPTION,
        "marketplace_fee": Price(price.currency, one_decimal=price.one_decimal, zero=True),
        "integration_data": INTEGRATION_DATA,
        "taxes": Anything(list),
    }


def in_store_items(price: Price) -> Many:
    """`items` of a sale in a shop: at most 10. An item may cost nothing."""
    item = Members(
        {
            "title": Text(longest=150),
            "unit_price": Price(price.currency, one_decimal=price.one_decimal, zero=True),
            "quantity": Whole(),
            "unit_measure": Text(longest=10),
            "external_code": Text(longest=30),
            "external_categories": Many(Members({"id": Text()}, ("id",)), "at most 10 categories", most=10),
        },
        needed=("title", "unit_price", "quantity"),
        rejected=_LEGACY_ITEM,
    )
    return Many(item, "at most 10 items", most=10)


def one_payment(price: Price) -> Members:
    """`transactions` of a sale in a shop: exactly one payment."""
    payment = Members({"amount": price}, needed=("amount",))
    return Members({"payments": Many(payment, "exactly one payment", fewest=1, most=1)}, needed=("payments",))


def life_up_to(longest: timedelta, name: str) -> Duration:
    """`expiration_time` from 30 seconds on; `name` writes the longest."""
    return Duration(SHORTEST_LIFE, longest, f"between PT30S and {name}")


def no_discount_on_categories(order: dict[str, object], path: str, faults: Faults) -> None:
    """Discounts by payment method and categories of items exclude each other (§2.1)."""
    categories = any(isinstance(item, dict) and item.get("external_categories") for item in entries(order.get("items")))
    if order.get("discounts") and categories:
        faults.add(f"{path}.discounts", "must not stand together with external_categories of an item")
