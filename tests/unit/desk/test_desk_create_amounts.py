"""Amounts of create bodies: texts, as fine as their currency, and sums that agree exactly."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from service.desk.create_rules import check_create
from tests.unit.desk.desk_bodies import SAMPLES, Body, changed, messages, online_body, paths, place, point_body, qr_body

ITEMS = [{"title": "A", "unit_price": "10.00", "quantity": 5}]


@pytest.mark.parametrize(
    ("amend", "where"),
    [
        (lambda body: body.update(total_amount="49.99"), "order.total_amount"),
        (lambda body: body["transactions"]["payments"][0].update(amount="50.01"), "order.total_amount"),
        (lambda body: body["items"][0].update(quantity=3), "order.items"),
        (lambda body: (body.pop("total_amount"), body["items"][1].update(unit_price="9.99")), "order.items"),
    ],
)
def test_sums_must_agree(amend: Callable[[Body], object], where: str) -> None:
    body = qr_body()
    amend(body)
    assert where in paths(body)


def test_equal_amounts_may_be_written_differently() -> None:
    body = qr_body() | {"total_amount": "50"}
    assert check_create(body, currency="ARS").amount == 50


def test_sums_are_exact_however_large() -> None:
    price = "9" * 14 + ".99"
    body = qr_body() | {"items": [{"title": "A", "unit_price": price, "quantity": 3}]}
    total = str(int(price.replace(".", "")) * 3)
    body["total_amount"] = body["transactions"]["payments"][0]["amount"] = f"{total[:-2]}.{total[-2:]}"
    assert check_create(body, currency="ARS").amount == Decimal(body["total_amount"])
    body["total_amount"] = body["transactions"]["payments"][0]["amount"] = f"{total[:-2]}.00"
    assert paths(body) == ["order.items"]


def test_where_the_sheet_is_silent_about_sums_mercado_pago_judges() -> None:
    with_cash = qr_body()
    with_cash["transactions"]["cash_outs"] = [{"amount": "10.00"}]
    with_cash["total_amount"] = "60.00"
    assert check_create(with_cash, currency="ARS").amount == 60
    taxed = qr_body() | {"taxes": [{"type": "IVA", "value": "5.00"}], "items": ITEMS * 2}
    assert check_create(taxed, currency="ARS").amount == 50
    without_total = qr_body()
    del without_total["total_amount"]
    assert check_create(without_total, currency="ARS").amount == 50


NO_AMOUNTS: tuple[object, ...] = (
    "",
    " 5",
    "5 ",
    "+5",
    "-5",
    "1e3",
    "5.",
    ".5",
    "5,00",
    "1.000,00",
    "٥",
    "5\n",
    "NaN",
    None,
    True,
    [],
    "$5",
)
AMOUNT_PLACES = [
    ("qr", "total_amount"),
    ("qr", "transactions.payments.0.amount"),
    ("qr", "items.0.unit_price"),
    ("qr", "discounts.payment_methods.0.new_total_amount"),
    ("point", "transactions.payments.0.amount"),
    ("online", "transactions.payments.0.amount"),
]


@pytest.mark.parametrize(("kind", "path"), AMOUNT_PLACES)
def test_amounts_are_texts(kind: str, path: str) -> None:
    for number in (50, Decimal("50.00"), 50.0):
        said = messages(changed(SAMPLES[kind](), path, number), "ARS")[place(path)]
        assert said == 'must be a text like "120.00", not a JSON number'
    for wrong in NO_AMOUNTS:
        said = messages(changed(SAMPLES[kind](), path, wrong), "ARS")[place(path)]
        assert said == 'must be an amount as text, digits and a point alone, like "120.00"'
    assert place(path) in paths(changed(SAMPLES[kind](), path, "50.001"))
    said = messages(changed(SAMPLES[kind](), path, "9" * 16))[place(path)]
    assert said == "must have at most 15 digits before the point"


@pytest.mark.parametrize(("kind", "path"), [one for one in AMOUNT_PLACES if one[1] != "items.0.unit_price"])
def test_amounts_are_above_0(kind: str, path: str) -> None:
    assert messages(changed(SAMPLES[kind](), path, "0.00"))[place(path)] == "must be above 0"


def test_an_item_may_cost_nothing() -> None:
    body = qr_body()
    body["items"].append({"title": "Sample", "unit_price": "0", "quantity": 1})
    assert check_create(body, currency="ARS").amount == 50


@pytest.mark.parametrize("currency", ["CLP", "COP", "HNL", "NIO", "PYG"])
@pytest.mark.parametrize("text", ["990.00", "990.5", "990.50"])
def test_a_currency_without_cents_takes_no_decimals(currency: str, text: str) -> None:
    body = point_body()
    body["transactions"]["payments"][0]["amount"] = text
    said = messages(body, currency)["order.transactions.payments[0].amount"]
    assert said == f'must have no decimals: {currency} has no cents; write it like "1200"'
    body["transactions"]["payments"][0]["amount"] = "990"
    assert check_create(body, currency=currency).amount == 990


def test_one_decimal_is_refused_where_the_sheet_refuses_it() -> None:
    qr = qr_body()
    for name in ("items", "discounts", "total_amount"):
        del qr[name]
    for body, passes in (
        (qr, False),
        (point_body(), True),
        (online_body() | {"items": [], "total_amount": "12.5"}, True),
    ):
        body["transactions"]["payments"][0]["amount"] = "12.5"
        if passes:
            assert check_create(body, currency="ARS").amount == Decimal("12.5")
        else:
            assert paths(body) == ["order.transactions.payments[0].amount"]
