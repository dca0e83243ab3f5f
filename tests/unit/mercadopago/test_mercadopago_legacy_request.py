"""The body of the second generation, made from that of the first: totals exact, nothing that V2 does not know."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.json_text import parse_json
from service.mercadopago.legacy import order_body_v2

NOW = datetime(2026, 9, 14, 14, 2, 43, 559_999, tzinfo=UTC)
ITEM = {
    "id": "78123172",
    "title": "Café",
    "currency_id": "ARS",
    "unit_price": Decimal("10.10"),
    "quantity": 3,
    "description": "Café chico",
    "picture_url": "https://example.com/cafe.png",
}


def v1(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"external_reference": "venta-1", "items": list(items or (ITEM,))} | fields


def v2(body: dict[str, Any], **settings: Any) -> Any:
    return json.loads(order_body_v2(body, now=NOW, **settings), parse_float=Decimal)


def test_a_whole_body() -> None:
    body = v1(
        ITEM, ITEM | {"unit_price": 5, "quantity": 1}, notification_url="https://x.example/n", sponsor_id=446566691
    )
    assert v2(body, ttl_seconds=180) == {
        "external_reference": "venta-1",
        "title": "Café",
        "description": "Café chico",
        "notification_url": "https://x.example/n",
        "expiration_date": "2026-09-14T10:05:43.559-04:00",
        "total_amount": Decimal("35.30"),
        "items": [
            {
                "sku_number": "78123172",
                "title": "Café",
                "description": "Café chico",
                "unit_price": Decimal("10.10"),
                "quantity": 3,
                "unit_measure": "unit",
                "total_amount": Decimal("30.30"),
            },
            {
                "sku_number": "78123172",
                "title": "Café",
                "description": "Café chico",
                "unit_price": 5,
                "quantity": 1,
                "unit_measure": "unit",
                "total_amount": 5,
            },
        ],
        "sponsor": {"id": 446566691},
    }


def test_what_v1_need_not_say() -> None:
    bare = v2(v1({"title": "x", "unit_price": 1, "quantity": 1}))
    assert (bare["title"], bare["description"]) == ("x", "x")
    assert "notification_url" not in bare
    assert "sponsor" not in bare
    assert bare["expiration_date"] == "2026-09-14T10:12:43.559-04:00"
    assert v2(v1({"unit_price": 1, "quantity": 1}))["title"] == "venta-1"
    assert v2(v1(title="La cuenta", description="Mesa 4"))["title"] == "La cuenta"
    assert v2(v1(title="La cuenta", description="Mesa 4"))["description"] == "Mesa 4"
    assert len(v2(v1(title="x" * 400))["title"]) == 256


def test_amounts_are_numbers_in_the_text_with_their_digits() -> None:
    text = order_body_v2(v1(ITEM | {"unit_price": Decimal("1E+3"), "quantity": 1}), now=NOW)
    assert '"unit_price":1000,' in text
    assert '"total_amount":1000,' in text
    assert '"unit_price":10.10,' in order_body_v2(v1(), now=NOW)


@pytest.mark.parametrize(
    "fields", [{"unit_price": None}, {"unit_price": 1.5}, {"unit_price": "x"}, {"quantity": "2"}, {"quantity": True}]
)
def test_an_item_without_price_or_quantity(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        order_body_v2(v1(ITEM | fields), now=NOW)


@given(
    st.lists(st.tuples(st.decimals(0, 10**12, places=2), st.integers(1, 10**6)), min_size=1, max_size=8),
    st.integers(1, 10**7),
)
def test_totals_are_exact(prices: list[tuple[Decimal, int]], ttl_seconds: int) -> None:
    items = [ITEM | {"unit_price": price, "quantity": quantity} for price, quantity in prices]
    body = parse_json(order_body_v2(v1(*items), now=NOW, ttl_seconds=ttl_seconds).encode()).value
    assert isinstance(body, dict)
    cents = sum(int(price * 100) * quantity for price, quantity in prices)
    assert Decimal(str(body["total_amount"])) * 100 == cents
    ends = datetime.fromisoformat(body["expiration_date"])
    assert timedelta(0) <= NOW + timedelta(seconds=ttl_seconds) - ends < timedelta(milliseconds=1)
