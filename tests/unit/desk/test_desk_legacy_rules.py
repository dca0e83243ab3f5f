"""Bodies of the legacy attended QR: JSON numbers with every digit, and faults at their places."""

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.desk.errors import InvalidRequest
from service.desk.legacy_rules import CheckedLegacy, check_legacy, check_point_of_sale
from service.mercadopago.json_text import parse_json
from tests.unit.desk.desk_bodies import ANY_JSON, Body, changed, legacy_body


def faults(order: object, currency: str | None = "ARS", ttl_seconds: object = None) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        check_legacy(order, currency=currency, ttl_seconds=ttl_seconds)
    return [fault.path for fault in refused.value.faults]


def test_a_body_with_everything_passes_as_it_came() -> None:
    checked = check_legacy(legacy_body(), currency="ARS", ttl_seconds=180)
    assert checked == CheckedLegacy(
        external_reference="sale-2001",
        amount=Decimal("35.00"),
        body='{"external_reference":"sale-2001","notification_url":"https://shop.example/webhooks/mercadopago",'
        '"sponsor_id":446566691,"items":[{"id":"sku-1","title":"Coffee","currency_id":"ARS","unit_price":12.50,'
        '"quantity":2,"description":"To go","picture_url":"https://shop.example/coffee.png"},'
        '{"title":"Water","currency_id":"ARS","unit_price":10,"quantity":1}]}',
    )


@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 2), st.integers(1, 999)), min_size=1, max_size=20),
    st.sampled_from([None, "ARS"]),
)
def test_valid_bodies_pass_and_their_numbers_keep_their_digits(
    items: list[tuple[int, int, int]], currency: str | None
) -> None:
    prices = [Decimal(cents).scaleb(-places) for cents, places, _ in items]
    body = legacy_body() | {
        "items": [
            {"title": "A", "currency_id": "ARS", "unit_price": price, "quantity": quantity}
            for price, (_, _, quantity) in zip(prices, items, strict=True)
        ]
    }
    checked = check_legacy(copy.deepcopy(body), currency=currency)
    assert parse_json(checked.body.encode()).value == body
    for price in prices:
        assert f'"unit_price":{price},' in checked.body
    assert checked.amount == sum(price * quantity for price, (_, _, quantity) in zip(prices, items, strict=True))


@given(ANY_JSON, st.sampled_from([None, "CLP"]), st.none() | ANY_JSON)
def test_any_json_passes_or_is_refused_and_nothing_else(order: object, currency: str | None, ttl: object) -> None:
    try:
        checked = check_legacy(order, currency=currency, ttl_seconds=ttl)
    except InvalidRequest as refused:
        told = refused
    else:
        assert checked.amount > 0
        return
    assert all(fault.path.startswith(("order", "ttl_seconds")) and fault.message for fault in told.faults)


@pytest.mark.parametrize("price", [10**15, Decimal("1e50"), Decimal("1e15"), 10**40, Decimal("1e400")])
def test_a_price_that_no_sale_has_is_refused(price: object) -> None:
    assert faults(changed(legacy_body(), "items.0.unit_price", price)) == ["order.items[0].unit_price"]
    most = changed(legacy_body(), "items.0.unit_price", 10**15 - 1)
    assert check_legacy(most, currency="ARS").amount > 10**15


@pytest.mark.parametrize("name", ["external_reference", "items"])
def test_what_is_required_is_missed(name: str) -> None:
    assert faults(changed(legacy_body(), name, ...)) == [f"order.{name}"]


@pytest.mark.parametrize("name", ["title", "currency_id", "unit_price", "quantity"])
def test_what_is_required_of_an_item_is_missed(name: str) -> None:
    assert faults(changed(legacy_body(), f"items.1.{name}", ...)) == [f"order.items[1].{name}"]


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("external_reference", "", "order.external_reference"),
        ("external_reference", 5, "order.external_reference"),
        ("external_reference", "a" * 65, "order.external_reference"),
        ("items", [], "order.items"),
        ("items", {"title": "A"}, "order.items"),
        ("items.0", "A", "order.items[0]"),
        ("items.0.title", "", "order.items[0].title"),
        ("items.0.currency_id", "BRL", "order.items[0].currency_id"),
        ("items.0.unit_price", "12.50", "order.items[0].unit_price"),
        ("items.0.unit_price", 12.5, "order.items[0].unit_price"),
        ("items.0.unit_price", Decimal("12.505"), "order.items[0].unit_price"),
        ("items.0.unit_price", Decimal(-1), "order.items[0].unit_price"),
        ("items.0.unit_price", 0, "order.items[0].unit_price"),
        ("items.0.unit_price", Decimal("NaN"), "order.items[0].unit_price"),
        ("items.0.unit_price", Decimal("1E+200"), "order.items[0].unit_price"),
        ("items.0.unit_price", True, "order.items[0].unit_price"),
        ("items.0.quantity", 0, "order.items[0].quantity"),
        ("items.0.quantity", Decimal("1.5"), "order.items[0].quantity"),
        ("items.0.quantity", "1", "order.items[0].quantity"),
        ("sponsor_id", "446566691", "order.sponsor_id"),
        ("notification_url", "http://shop.example", "order.notification_url"),
        ("notification_url", "https://", "order.notification_url"),
        ("notification_url", "https://shop.example/ x", "order.notification_url"),
        ("notification_url", "https://shop.example/" + "x" * 228, "order.notification_url"),
        ("notification_url", None, "order.notification_url"),
    ],
)
def test_what_is_wrong_is_named_at_its_place(path: str, value: Any, place: str) -> None:
    assert faults(changed(legacy_body(), path, value)) == [place]


def test_limits_are_part_of_what_is_allowed() -> None:
    body = legacy_body() | {"external_reference": "é" * 64, "notification_url": "https://shop.example/" + "x" * 227}
    assert len(body["notification_url"]) == 248
    assert check_legacy(body, currency="ARS").external_reference == "é" * 64


def test_every_fault_is_named_at_once() -> None:
    body = {"items": [{"title": 5, "unit_price": "1", "quantity": "1"}], "notification_url": "x"}
    assert sorted(faults(body, ttl_seconds="180")) == [
        "order.external_reference",
        "order.items[0].currency_id",
        "order.items[0].quantity",
        "order.items[0].title",
        "order.items[0].unit_price",
        "order.notification_url",
        "ttl_seconds",
    ]


@pytest.mark.parametrize("ttl", [1, 30, 180, 600, 86_400])
def test_an_order_may_live_for_a_day(ttl: int) -> None:
    check_legacy(legacy_body(), currency="ARS", ttl_seconds=ttl)


@pytest.mark.parametrize("ttl", [0, -1, 86_401, True, "180", Decimal("180.5"), 3.0, []])
def test_an_order_lives_a_whole_number_of_seconds(ttl: object) -> None:
    assert faults(legacy_body(), ttl_seconds=ttl) == ["ttl_seconds"]


@pytest.mark.parametrize("known", [None, "CLP"])
def test_a_currency_without_cents_takes_whole_numbers(known: str | None) -> None:
    def body(price: Decimal) -> Body:
        item = {"title": "A", "currency_id": "CLP", "unit_price": price, "quantity": 2}
        return {"external_reference": "a", "items": [item]}

    assert faults(body(Decimal("990.50")), known) == ["order.items[0].unit_price"]
    checked = check_legacy(body(Decimal("990.00")), currency=known)
    assert checked.amount == 1980
    assert '"unit_price":990.00' in checked.body


def test_items_are_all_of_one_currency() -> None:
    assert faults(changed(legacy_body(), "items.1.currency_id", "BRL"), None) == ["order.items[1].currency_id"]


@pytest.mark.parametrize("place", ["CAJA002", "a", "caja_2-b", "A" * 40])
def test_a_point_of_sale_is_taken_as_it_is(place: str) -> None:
    assert check_point_of_sale(place) == place


@pytest.mark.parametrize("place", [None, "", " ", "a/b", "..", "a?b", "a%2Fb", "caja 2", "ñ", "A" * 41, "a\n", 5])
def test_what_would_break_a_path_is_no_point_of_sale(place: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_point_of_sale(place)
    assert [fault.path for fault in refused.value.faults] == ["external_pos_id"]
