"""Pages of a search: both forms of paging, entries of every quality, and no page called the last that may not be."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.errors import MercadoPagoError, NonsenseAnswer
from service.mercadopago.listing import OrdersPage, read_merchant_order_ids, read_orders_page

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mercadopago"


def page(value: object, *, page: int = 1, page_size: int = 100) -> OrdersPage:
    return read_orders_page(json.dumps(value).encode(), page=page, page_size=page_size)


def entries(count: int) -> list[dict[str, str]]:
    return [{"id": f"ORD{number:026}"} for number in range(count)]


def answer(count: int, **paging: object) -> dict[str, Any]:
    return {"data": entries(count), "paging": paging}


def test_an_entry_is_read() -> None:
    document = json.loads((FIXTURES / "order-processed-qr.json").read_bytes())
    [listed] = page({"data": [document], "paging": {"total": "1", "total_pages": "1", "offset": "0"}}).orders
    assert (listed.order_id, listed.type, listed.status) == (document["id"], "qr", "processed")
    assert listed.external_reference == document["external_reference"]
    assert listed.total_amount == Decimal(document["total_amount"])
    assert listed.created_at == datetime.fromisoformat(document["created_date"])
    assert listed.updated_at == datetime.fromisoformat(document["last_updated_date"])
    assert listed.document == document


def test_an_entry_may_say_next_to_nothing() -> None:
    [listed] = page(
        {"data": [{"id": "ORD1", "total_amount": "much", "created_date": 5, "external_reference": ""}]}
    ).orders
    assert (listed.total_amount, listed.created_at, listed.updated_at) == (None, None, None)
    assert (listed.external_reference, listed.status) == (None, None)


def test_entries_that_name_no_order_are_counted_and_skipped() -> None:
    got = page(
        {"data": [{"id": "ORD1"}, {}, None, "x", {"id": None}, {"id": "a/b"}, {"id": ""}], "paging": {"total": 7}}
    )
    assert [order.order_id for order in got.orders] == ["ORD1"]
    assert got.skipped == 6
    assert got.is_last


@pytest.mark.parametrize("text", [str, int])
@pytest.mark.parametrize(
    ("number", "count", "paging", "is_last"),
    [
        (1, 0, {"total": 0, "total_pages": 0, "offset": 0, "limit": 100}, True),
        (1, 3, {"total": 3, "total_pages": 1, "offset": 0, "limit": 100}, True),
        (1, 100, {"total": 250, "offset": 0, "limit": 100}, False),
        (3, 50, {"total": 250, "offset": 200, "limit": 100}, True),
        (3, 49, {"total": 250, "offset": 200, "limit": 100}, False),
        (3, 49, {"total": 250, "page": 3, "page_size": 100}, False),
        (3, 50, {"total": 250, "page": 3, "page_size": 100}, True),
        (2, 50, {"total": 250, "offset": 50, "limit": 50}, False),
        (5, 50, {"total": 250, "offset": 200, "limit": 50}, False),
        (6, 0, {"total": 250, "offset": 250, "limit": 50}, True),
        (1, 50, {"total": 51}, False),
        (1, 50, {"total": 50}, True),
        (2, 0, {"total": 250, "offset": 100, "limit": 100}, False),
        (4, 0, {"total": 250, "offset": 300, "limit": 100}, True),
        (1, 100, {"total": 100, "offset": 0, "limit": 100}, False),
        (1, 3, {}, False),
        (2, 0, {}, True),
        (1, 3, {"total": -1}, False),
    ],
)
def test_the_last_page(text: Any, number: int, count: int, paging: dict[str, int], is_last: bool) -> None:
    shown = {name: text(value) for name, value in paging.items()}
    got = page(answer(count, **shown), page=number)
    assert got.is_last is is_last
    assert got.total == (paging.get("total") if paging.get("total", -1) >= 0 else None)


@pytest.mark.parametrize(
    "paging", [{"total": 250, "offset": "0", "limit": "100"}, {"total": 250, "page": 1}, {"offset": 30, "limit": 30}]
)
def test_a_page_that_was_not_asked_for(paging: dict[str, object]) -> None:
    with pytest.raises(NonsenseAnswer, match="page 3"):
        page(answer(30, **paging), page=3)


@given(
    st.integers(0, 450),
    st.integers(1, 100),
    st.sampled_from(["offset", "offset alone", "page", "total", "none"]),
    st.booleans(),
)
def test_reading_on_to_the_last_page_misses_nothing(total: int, most: int, form: str, as_text: bool) -> None:
    """Against a provider that gives at most `most` a page and tells its paging in any of the forms, or not at all."""
    stock, seen = entries(total), []
    for number in range(1, total + 3):
        offset = (number - 1) * most
        paging: dict[str, Any] = {
            "offset": {"total": total, "offset": offset, "limit": most},
            "offset alone": {"total": total, "offset": offset},
            "page": {"total": total, "page": number, "page_size": most},
            "total": {"total": total},
            "none": {},
        }[form]
        if as_text:
            paging = {name: str(value) for name, value in paging.items()}
        got = page({"data": stock[offset : offset + most], "paging": paging}, page=number)
        seen += [order.order_id for order in got.orders]
        if got.is_last:
            break
    else:
        pytest.fail("no page was the last")
    assert seen == [entry["id"] for entry in stock]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data":{}}', b'{"data":"x"}', b'{"paging":{}}'])
def test_what_is_no_search(body: bytes) -> None:
    with pytest.raises(NonsenseAnswer):
        read_orders_page(body, page=1, page_size=100)


def test_nothing_found() -> None:
    assert page({"data": None, "paging": {"total": 0}}) == OrdersPage((), 0, is_last=True)
    assert page({"results": []}) == OrdersPage((), None, is_last=True)


@pytest.mark.parametrize(
    ("value", "numbers", "following"),
    [
        ({"elements": None, "total": 0, "next_offset": 0}, (), None),
        ({"elements": [], "total": 0}, (), None),
        ({"elements": [{"id": 36678900123}], "total": 1, "next_offset": 1}, ("36678900123",), None),
        ({"elements": [{"id": 2}, {"id": "1"}, {"id": 2}, {}, {"id": "x"}, 5]}, ("2", "1"), None),
        ({"elements": [{"id": 1}], "total": "3", "next_offset": "1"}, ("1",), 1),
        ({"elements": [], "total": 3, "next_offset": 1}, (), None),
    ],
)
def test_merchant_orders_found(value: object, numbers: tuple[str, ...], following: int | None) -> None:
    assert read_merchant_order_ids(json.dumps(value).encode()) == (numbers, following)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"elements":{}}', b'{"total":0}'])
def test_what_is_no_search_of_merchant_orders(body: bytes) -> None:
    with pytest.raises(NonsenseAnswer):
        read_merchant_order_ids(body)


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@given(values, values, st.integers(1, 5))
def test_any_answer_is_a_page_or_an_error_of_the_tree(data: object, paging: object, number: int) -> None:
    try:
        got = page({"data": data, "paging": paging}, page=number)
    except MercadoPagoError:
        return
    assert len(got.orders) + got.skipped == (len(data) if isinstance(data, list) else 0)
