"""Every class of mistake in a create body is refused at its place."""

from decimal import Decimal
from typing import Any

import pytest

from service.desk.create_rules import check_create
from tests.unit.desk.desk_bodies import SAMPLES, Body, changed, messages, online_body, paths, place, qr_body

REQUIRED = [
    *[("qr", path) for path in ("external_reference", "config", "config.qr", "config.qr.external_pos_id")],
    *[("qr", path) for path in ("transactions", "transactions.payments", "transactions.payments.0.amount")],
    *[("qr", f"items.0.{name}") for name in ("title", "unit_price", "quantity")],
    *[("qr", f"discounts.payment_methods.0.{name}") for name in ("type", "new_total_amount")],
    *[("point", path) for path in ("external_reference", "config", "config.point", "config.point.terminal_id")],
    *[("point", path) for path in ("transactions", "transactions.payments", "transactions.payments.0.amount")],
    *[("online", path) for path in ("transactions", "transactions.payments", "transactions.payments.0.amount")],
    ("online", "payer"),
]


@pytest.mark.parametrize(("kind", "path"), REQUIRED)
def test_what_is_required_is_missed_at_its_place(kind: str, path: str) -> None:
    assert messages(changed(SAMPLES[kind](), path, ...)) == {place(path): "is required"}


WRONG_TYPES: list[tuple[str, str, Any]] = [
    *[("qr", path, 5) for path in ("description", "external_reference", "expiration_time", "config", "config.qr")],
    *[("qr", path, None) for path in ("config.qr.external_pos_id", "config.qr.mode", "items", "discounts")],
    *[("qr", path, "x") for path in ("transactions", "transactions.payments", "items", "items.0", "items.0.quantity")],
    *[("qr", path, 7) for path in ("items.0.title", "items.0.unit_measure", "items.0.external_code", "discounts")],
    *[("qr", path, 446) for path in ("integration_data.sponsor.id", "integration_data.platform_id")],
    *[("qr", path, []) for path in ("config", "integration_data", "transactions", "items.0")],
    ("qr", "taxes", {}),
    ("qr", "transactions.payments.0", "50.00"),
    ("qr", "items.0.quantity", "2"),
    ("qr", "items.0.quantity", Decimal("2.5")),
    ("qr", "items.0.quantity", True),
    ("qr", "items.0.quantity", 0),
    ("qr", "items.0.external_categories", {}),
    ("point", "config.payment_method.default_installments", Decimal("6.5")),
    ("point", "config.payment_method.default_installments", 0),
    ("point", "config.point.ticket_number", 12),
    ("online", "payer", []),
    ("online", "config", "x"),
    ("online", "transactions.payments.0.payment_method", "visa"),
    ("online", "transactions.payments.0.payment_method.token", 5),
    ("online", "processing_mode", "sometimes"),
    ("online", "capture_mode", None),
]


@pytest.mark.parametrize(("kind", "path", "value"), WRONG_TYPES)
def test_a_wrong_type_is_named_at_its_place(kind: str, path: str, value: Any) -> None:
    assert paths(changed(SAMPLES[kind](), path, value)) == [place(path)]


LENGTHS = [
    ("qr", "description", 150, "á"),
    ("qr", "external_reference", 64, "a"),
    ("qr", "items.0.title", 150, "a"),
    ("qr", "items.0.unit_measure", 10, "a"),
    ("qr", "items.0.external_code", 30, "a"),
    ("point", "description", 150, "a"),
    ("point", "external_reference", 64, "_"),
    ("online", "external_reference", 64, "é"),
]


@pytest.mark.parametrize(("kind", "path", "longest", "letter"), LENGTHS)
def test_texts_are_as_long_as_they_may_be(kind: str, path: str, longest: int, letter: str) -> None:
    check_create(changed(SAMPLES[kind](), path, letter * longest), currency="ARS")
    said = messages(changed(SAMPLES[kind](), path, letter * (longest + 1)))
    assert said == {place(path): f"must have at most {longest} characters, not {longest + 1}"}


@pytest.mark.parametrize("kind", ["qr", "point"])
@pytest.mark.parametrize("reference", ["", " ", "sale 1", "venta-ñ", "a/b", "a.b", "a\n", "１"])
def test_a_reference_is_made_of_plain_characters(kind: str, reference: str) -> None:
    assert paths(changed(SAMPLES[kind](), "external_reference", reference)) == ["order.external_reference"]


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("qr", "config.qr.mode", "hibrid"),
        ("qr", "discounts.payment_methods.0.type", "cash"),
        ("point", "config.point.print_on_terminal", "yes"),
        ("point", "config.payment_method.default_type", "cash"),
        ("qr", "integration_data.integrator_id", "1234"),
        ("qr", "config.qr.external_pos_id", ""),
        ("point", "config.point.terminal_id", "  "),
    ],
)
def test_a_value_that_is_none_of_those_allowed_is_named(kind: str, path: str, value: str) -> None:
    assert paths(changed(SAMPLES[kind](), path, value)) == [place(path)]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("qr", ["PT30S", "PT3600H", "P150D", "PT0.5M"], ["PT29S", "PT3600H1S", "P151D", "15", "PT", "P1M", "", "P1Y"]),
        ("point", ["PT30S", "PT3H", "PT180M"], ["PT29.9S", "PT3H1S", "P1D", "pt15m"]),
        ("online", ["PT30S", "PT60S", "PT30M", "P30D"], ["PT1S", "P30DT1S", "never"]),
    ],
)
def test_orders_live_as_long_as_they_may(kind: str, good: list[str], bad: list[str]) -> None:
    for life in good:
        assert check_create(SAMPLES[kind]() | {"expiration_time": life}, currency="ARS").expires_after is not None
    for life in bad:
        assert paths(SAMPLES[kind]() | {"expiration_time": life}) == ["order.expiration_time"]


def test_a_payment_online_lives_within_the_same_bounds() -> None:
    body = changed(online_body(), "transactions.payments.0.expiration_time", "PT1S")
    assert paths(body) == ["order.transactions.payments[0].expiration_time"]


@pytest.mark.parametrize("kind", ["qr", "point"])
def test_a_sale_in_a_shop_has_exactly_one_payment(kind: str) -> None:
    for count in (0, 2):
        body = SAMPLES[kind]()
        body.pop("items", None)
        body["total_amount"] = "100.00"
        body["transactions"]["payments"] = [{"amount": "50.00"}] * count
        assert messages(body) == {"order.transactions.payments": f"must hold exactly one payment, not {count}"}


def test_an_online_order_has_one_payment_or_two() -> None:
    body = online_body()
    body["transactions"]["payments"] = [{"amount": "60.00"}, {"amount": "40.00"}]
    assert check_create(body, currency="BRL").amount == Decimal("100.00")
    for count in (0, 3):
        body["transactions"]["payments"] = [{"amount": "50.00"}] * count
        body.pop("total_amount", None)
        body.pop("items", None)
        assert paths(body) == ["order.transactions.payments"]


def test_lists_have_their_limits() -> None:
    body = qr_body() | {"items": [{"title": "A", "unit_price": "5.00", "quantity": 1}] * 11, "total_amount": "55.00"}
    body["transactions"]["payments"][0]["amount"] = "55.00"
    assert messages(body) == {"order.items": "must hold at most 10 items, not 11"}
    body = changed(qr_body(), "discounts.payment_methods", [{"type": "debit_card", "new_total_amount": "1.00"}] * 5)
    assert paths(body) == ["order.discounts.payment_methods"]
    del body["discounts"]
    body = changed(body, "items.0.external_categories", [{"id": "food"}] * 11)
    assert paths(body) == ["order.items[0].external_categories"]
    check_create(changed(body, "items.0.external_categories", [{"id": "food"}] * 10), currency="ARS")


def test_discounts_and_categories_exclude_each_other() -> None:
    body = changed(qr_body(), "items.1.external_categories", [{"id": "food"}])
    assert paths(body) == ["order.discounts"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("notification_url", "https://shop.example/x"),
        ("title", "Sale"),
        ("items.0.total_amount", "40.00"),
        ("items.1.currency_id", "ARS"),
    ],
)
def test_what_mercado_pago_is_known_to_reject_is_named(path: str, value: str) -> None:
    said = messages(changed(qr_body(), path, value))
    assert list(said) == [place(path)]
    assert said[place(path)].startswith("is not accepted by Mercado Pago here: ")


@pytest.mark.parametrize("payer", [{}, {"first_name": "APRO"}, {"email": ""}, {"id": None}])
def test_a_payer_has_a_name(payer: Body) -> None:
    assert paths(online_body() | {"payer": payer}) == ["order.payer"]


@pytest.mark.parametrize("kind", [None, 5, "", "QR", "legacy_qr", ["qr"], {}])
def test_a_type_nobody_knows_is_named(kind: object) -> None:
    assert messages(qr_body() | {"type": kind}) == {"order.type": "must be one of qr, point, online"}


@pytest.mark.parametrize("order", [None, [], "qr", 5, True])
def test_an_order_is_an_object(order: object) -> None:
    assert paths(order) == ["order"]


def test_every_fault_is_named_at_once() -> None:
    body = {
        "type": "qr",
        "total_amount": 50,
        "external_reference": "no blanks allowed",
        "expiration_time": "PT1S",
        "config": {"qr": {"mode": "hibrid"}},
        "transactions": {"payments": [{"amount": "-1"}]},
        "items": [{"title": "", "unit_price": "1.005", "quantity": "2"}],
        "title": "Sale",
        "notification_url": "https://shop.example",
    }
    assert sorted(paths(body)) == sorted(
        [
            "order.total_amount",
            "order.external_reference",
            "order.expiration_time",
            "order.config.qr.external_pos_id",
            "order.config.qr.mode",
            "order.transactions.payments[0].amount",
            "order.items[0].title",
            "order.items[0].unit_price",
            "order.items[0].quantity",
            "order.title",
            "order.notification_url",
        ]
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1.5, "binary fraction"),
        (Decimal("NaN"), "finite"),
        (float("inf"), "binary fraction"),
        (10**2000, "too long"),
        (b"x", "no JSON"),
        (("a",), "no JSON"),
        ("\x00", "NUL"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_cannot_be_sent_as_it_is_is_named(value: object, why: str) -> None:
    said = messages(qr_body() | {"x": {"y": [value]}})
    assert list(said) == ["order.x.y[0]"]
    assert why in said["order.x.y[0]"]


def test_odd_names_of_members_are_named_printably_and_short() -> None:
    said = messages(qr_body() | {"\x00" * 50: 1, 5: 2})
    assert all("name" in message for message in said.values())
    assert all(path.isprintable() and len(path) < 60 for path in said)
    assert len(said) == 2


def test_endless_nesting_is_refused() -> None:
    nested: object = []
    for _ in range(5000):
        nested = [nested]
    assert len(paths(qr_body() | {"x": nested})) == 1


def test_no_more_than_a_hundred_faults_are_told() -> None:
    assert len(paths(qr_body() | {"items": [{}] * 5000})) == 100
