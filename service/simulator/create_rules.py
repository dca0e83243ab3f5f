"""What `POST /v1/orders` accepts, and what it answers to the rest (orders fact sheet, §2 and §8). Pure."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from .clock import parse_duration
from .money import ZERO, Json, Site, amount_text, decimal_of, total
from .payloads import payments_of
from .schema import Anything, Invalid, Many, Members, Shape, Text, Whole, check

SHORTEST_LIFE = timedelta(seconds=30)


def _life_up_to(longest: timedelta) -> Text:
    def fits(text: str) -> None:
        if not SHORTEST_LIFE <= parse_duration(text) <= longest:
            raise ValueError(f"must be between PT30S and PT{longest // timedelta(hours=1)}H")

    return Text(check=fits)


def _amount(text: str) -> None:
    amount_text(text)


AMOUNT = Text(check=_amount)
REFERENCE = Text(longest=64, pattern="[A-Za-z0-9_-]+")
ITEM: Mapping[str, Shape] = {
    "title": Text(longest=150),
    "unit_price": AMOUNT,
    "quantity": Whole(),
    "unit_measure": Text(longest=10),
    "external_code": Text(longest=30),
    "external_categories": Many(Members({"id": Text()}, ("id",)), most=10),
}
INTEGRATION = Members(
    {
        "platform_id": Text(),
        "integrator_id": Text(pattern="dev_.+"),
        "corporation_id": Text(),
        "sponsor": Members({"id": Text()}, ("id",)),
    }
)
DISCOUNT = Members(
    {
        "type": Text(choices=("debit_card", "credit_card", "account_money", "prepaid_card")),
        "new_total_amount": AMOUNT,
    },
    ("type", "new_total_amount"),
)
COMMON: Mapping[str, Shape] = {
    "type": Text(),
    "total_amount": Text(),
    "description": Text(longest=150),
    "external_reference": REFERENCE,
    "marketplace_fee": AMOUNT,
    "integration_data": INTEGRATION,
    "discounts": Members({"payment_methods": Many(DISCOUNT, most=4)}),
    "taxes": Anything((list,)),
    "processing_mode": Text(choices=("automatic", "manual")),
    "capture_mode": Text(choices=("automatic", "automatic_async", "manual")),
    "currency": Text(),
}
PLAIN_PAYMENTS = Members({"payments": Many(Members({"amount": Text()}, ("amount",)), fewest=1)}, ("payments",))
QR = Members(
    {
        **COMMON,
        "expiration_time": _life_up_to(timedelta(hours=3600)),
        "config": Members(
            {
                "qr": Members(
                    {"external_pos_id": Text(), "mode": Text(choices=("static", "dynamic", "hybrid"))},
                    ("external_pos_id",),
                )
            },
            ("qr",),
        ),
        "items": Many(Members(ITEM, ("title", "unit_price", "quantity")), most=10),
        "transactions": PLAIN_PAYMENTS,
        "payer": Anything((dict,)),
    },
    ("type", "external_reference", "config", "transactions"),
)
POINT = Members(
    {
        **COMMON,
        "expiration_time": _life_up_to(timedelta(hours=3)),
        "config": Members(
            {
                "point": Members(
                    {
                        "terminal_id": Text(),
                        "print_on_terminal": Text(choices=("seller_ticket", "no_ticket")),
                        "ticket_number": Text(),
                    },
                    ("terminal_id",),
                ),
                "payment_method": Members(
                    {
                        "default_type": Text(choices=("credit_card", "debit_card", "qr")),
                        "default_installments": Anything((str, int)),
                        "installments_cost": Text(choices=("seller", "buyer")),
                    }
                ),
            },
            ("point",),
        ),
        "items": Many(Members(ITEM, ("title", "unit_price", "quantity")), most=10),
        "transactions": PLAIN_PAYMENTS,
        "payer": Anything((dict,)),
    },
    ("type", "external_reference", "config", "transactions"),
)
ONLINE = Members(
    {
        **COMMON,
        "external_reference": Text(longest=64),
        "expiration_time": Text(check=parse_duration),
        "config": Anything((dict,)),
        "items": Many(Members(ITEM, ("title", "unit_price", "quantity"), closed=False)),
        "transactions": Members(
            {
                "payments": Many(
                    Members(
                        {
                            "amount": Text(),
                            "payment_method": Anything((dict,)),
                            "expiration_time": Text(check=parse_duration),
                        },
                        ("amount",),
                        closed=False,
                    ),
                    fewest=1,
                )
            },
            ("payments",),
        ),
        "payer": Members(closed=False, fewest=1),
    },
    ("type", "transactions", "payer"),
)
SHAPES: Mapping[object, Members] = {"qr": QR, "point": POINT, "online": ONLINE}
NAMED_PAYER = ("email", "customer_id", "id")


def check_create(body: Json, site: Site) -> None:
    """Raise `Invalid` where the API would refuse the body of a create."""
    kind = body.get("type")
    if kind is not None and not (isinstance(kind, str) and kind in SHAPES):
        if not isinstance(kind, str):
            check(Members({"type": Text()}, closed=False), body)
        raise Invalid(400, "invalid_order_type", "Invalid order type")
    check(SHAPES[kind or "qr"], body)
    payer = body.get("payer")
    if kind == "online" and isinstance(payer, dict) and not any(payer.get(name) for name in NAMED_PAYER):
        raise Invalid(400, "required_properties", "Missing properties", "missing properties: '$.payer.email'")
    _check_money(body, site)


def _check_money(body: Json, site: Site) -> None:
    payments = payments_of(body)
    if len(payments) > 1:
        message = "The number of transactions exceeds the limit of 1"
        raise Invalid(400, "exceeded_number_of_transactions", message)
    for payment in payments:
        if not _is_price(payment["amount"], site):
            raise Invalid(400, "invalid_transaction_amount", "Invalid transaction amount", "$.transactions.payments[0]")
    due = total(payment["amount"] for payment in payments)
    if "total_amount" in body and not (
        _is_price(body["total_amount"], site) and decimal_of(body["total_amount"]) == due
    ):
        message = "total_amount must equal the sum of the payments"
        raise Invalid(400, "invalid_total_amount", message)
    items = body.get("items") or ()
    if items and sum((decimal_of(item["unit_price"]) * item["quantity"] for item in items), ZERO) != due:
        message = "total_amount must equal the sum of the items"
        raise Invalid(400, "order_items_total_amount_mismatch", message)


def _is_price(text: str, site: Site) -> bool:
    """A positive amount the currency can express."""
    try:
        amount = Decimal(amount_text(text))
    except ValueError:
        return False
    return amount > ZERO and (site.decimals or amount == amount.to_integral_value())
