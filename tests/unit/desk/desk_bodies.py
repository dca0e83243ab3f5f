"""Create bodies: one full sample of each type, random valid ones, and any JSON at all."""

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import strategies as st

from service.desk.amounts import NO_CENTS
from service.desk.create_rules import check_create
from service.desk.errors import InvalidRequest

Body = dict[str, Any]

REFERENCE_CHARACTERS = "ABCXYZabcxyz0189_-"


def qr_body() -> Body:
    """Every member that the sheet knows of a QR order; the sums agree."""
    return {
        "type": "qr",
        "total_amount": "50.00",
        "description": "Almacén, caja 2",
        "external_reference": "sale-1001",
        "expiration_time": "PT16M",
        "marketplace_fee": "0.50",
        "integration_data": {
            "platform_id": "1234567890",
            "integrator_id": "dev_1234",
            "sponsor": {"id": "446566691"},
        },
        "config": {"qr": {"external_pos_id": "CAJA002", "mode": "hybrid"}},
        "transactions": {"payments": [{"amount": "50.00"}]},
        "items": [
            {
                "title": "Yerba 1 kg",
                "unit_price": "20.00",
                "quantity": 2,
                "unit_measure": "unit",
                "external_code": "779123",
            },
            {"title": "Bag", "unit_price": "10.00", "quantity": 1, "unit_measure": "unit"},
        ],
        "discounts": {
            "payment_methods": [
                {"type": "debit_card", "new_total_amount": "47.28"},
                {"type": "account_money", "new_total_amount": "45.00"},
            ]
        },
    }


def point_body() -> Body:
    """Every member that the sheet knows of a Point order."""
    return {
        "type": "point",
        "external_reference": "sale-1002",
        "description": "Caja 3",
        "expiration_time": "PT3H",
        "config": {
            "point": {
                "terminal_id": "NEWLAND_N950__N950NCB801293324",
                "print_on_terminal": "no_ticket",
                "ticket_number": "S0392JED",
            },
            "payment_method": {
                "default_type": "credit_card",
                "default_installments": "6",
                "installments_cost": "seller",
            },
        },
        "transactions": {"payments": [{"amount": "24.90"}]},
        "integration_data": {"platform_id": "1234567890"},
    }


def online_body() -> Body:
    """An online order paid by card."""
    return {
        "type": "online",
        "processing_mode": "automatic",
        "capture_mode": "automatic_async",
        "total_amount": "100.00",
        "external_reference": "web 90300",
        "payer": {"email": "buyer@example.com", "first_name": "APRO"},
        "transactions": {
            "payments": [
                {
                    "amount": "100.00",
                    "payment_method": {
                        "id": "visa",
                        "type": "credit_card",
                        "token": "12ab34cd56ef7890aa11bb22cc33dd44",
                        "installments": 1,
                    },
                }
            ]
        },
        "items": [{"id": "sku", "title": "Shoes", "unit_price": "100.00", "quantity": 1, "category_id": "fashion"}],
    }


def legacy_body() -> Body:
    """A V1 body of the legacy attended QR, with every member that the sheet knows."""
    return {
        "external_reference": "sale-2001",
        "notification_url": "https://shop.example/webhooks/mercadopago",
        "sponsor_id": 446566691,
        "items": [
            {
                "id": "sku-1",
                "title": "Coffee",
                "currency_id": "ARS",
                "unit_price": Decimal("12.50"),
                "quantity": 2,
                "description": "To go",
                "picture_url": "https://shop.example/coffee.png",
            },
            {"title": "Water", "currency_id": "ARS", "unit_price": 10, "quantity": 1},
        ],
    }


SAMPLES = {"qr": qr_body, "point": point_body, "online": online_body}

_OF_SOME_LENGTH = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs")), min_size=1, max_size=10)
_EXTRA = st.dictionaries(
    st.sampled_from(["x_new", "x_metadata", "x_flag"]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.decimals(allow_nan=False, allow_infinity=False)
        | _OF_SOME_LENGTH,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_OF_SOME_LENGTH, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=2,
)


def written(amount: Decimal, currency: str | None, *, decimals: bool) -> str:
    """`amount` as the provider takes it."""
    return str(amount) if decimals and currency not in NO_CENTS else str(amount.to_integral_value())


@st.composite
def valid_bodies(draw: st.DrawFn) -> tuple[Body, str | None]:
    """A body that must pass, with members nobody knows, and the account's currency."""
    kind = draw(st.sampled_from(list(SAMPLES)))
    body = copy.deepcopy(SAMPLES[kind]())
    currency = draw(st.sampled_from([None, "ARS", "BRL", "CLP", "COP"]))
    whole = currency in NO_CENTS or draw(st.booleans())
    price = st.integers(1, 10**6).map(lambda n: Decimal(n) if whole else Decimal(n).scaleb(-2))
    bought = draw(st.lists(st.tuples(price, st.integers(1, 99)), min_size=1, max_size=10))
    total = sum((each * count for each, count in bought), Decimal(0))
    text = str(total)
    body["transactions"]["payments"][0]["amount"] = text
    body["total_amount"] = text
    body["items"] = [
        {"title": draw(_OF_SOME_LENGTH), "unit_price": str(each), "quantity": count} for each, count in bought
    ]
    body["external_reference"] = draw(st.text(REFERENCE_CHARACTERS, min_size=1, max_size=64))
    if kind != "online" and draw(st.booleans()):
        body["expiration_time"] = draw(st.sampled_from(["PT30S", "PT15M", "PT2H59M59.5S", "PT3H"]))
    for optional in ("total_amount", "items", "discounts", "description", "integration_data", "marketplace_fee"):
        if optional in body and draw(st.booleans()):
            del body[optional]
    if whole:
        body.pop("discounts", None)
        body.pop("marketplace_fee", None)
    members = list((body | draw(_EXTRA)).items())
    return dict(draw(st.permutations(members))), currency


_NAMES = (
    *(
        "type",
        "total_amount",
        "external_reference",
        "expiration_time",
        "config",
        "qr",
        "point",
        "external_pos_id",
        "mode",
    ),
    *("terminal_id", "transactions", "payments", "amount", "payment_method", "token", "payer", "email", "cash_outs"),
    *("items", "title", "unit_price", "quantity", "external_categories", "id", "currency_id", "notification_url"),
    *("discounts", "payment_methods", "new_total_amount", "payment_id", "data", "status", "refunds"),
)

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["qr", "point", "online", "PT15M", "12.50", "12", "sale-1", "-1", "1e400", "\ud800", "\x00"])
    | st.sampled_from([Decimal("1E+999999"), Decimal("-0"), 10**2000]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(_NAMES) | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)
"""Anything that a JSON parser may give, biased towards the members that matter."""


def paths(body: object, currency: str | None = "ARS") -> list[str]:
    """Where this create body is wrong."""
    with pytest.raises(InvalidRequest) as refused:
        check_create(body, currency=currency)
    return [fault.path for fault in refused.value.faults]


def messages(body: object, currency: str | None = "ARS") -> dict[str, str]:
    """What is wrong with this create body, by place."""
    with pytest.raises(InvalidRequest) as refused:
        check_create(body, currency=currency)
    return {fault.path: fault.message for fault in refused.value.faults}


def changed(body: Body, path: str, value: Any) -> Body:
    """A copy with `value` at `path` (`a.b.0.c`); `...` takes the member out."""
    body = copy.deepcopy(body)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = body
    for part in way:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return body


def place(path: str) -> str:
    """`a.b.0.c` as a fault writes it."""
    text = "order"
    for part in path.split("."):
        text += f"[{part}]" if part.isdigit() else f".{part}"
    return text
