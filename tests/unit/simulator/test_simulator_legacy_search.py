"""The searches of merchant orders and payments: filters, dates, paging, refusals."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.simulator.config import SimulatorConfig
from service.simulator.draws import Draws
from service.simulator.in_store import InStoreBook
from service.simulator.in_store_shapes import merchant_order_view, payment_view
from service.simulator.legacy_search import BadLegacySearch, search_merchant_orders, search_payments

NOW = datetime(2026, 9, 14, 12, 0, tzinfo=UTC)
CONFIG = SimulatorConfig()
Views = list[dict[str, Any]]


@pytest.fixture
def views() -> tuple[Views, Views]:
    """Merchant orders of 0, 1, 50, 100 and 400 days ago; payments of them, the second one rejected."""
    book = InStoreBook(CONFIG, Draws(1))
    for number, age_days in enumerate((0, 1, 50, 100, 400)):
        at = NOW - timedelta(days=age_days)
        request = {"external_reference": f"sale-{number}", "items": [{"title": "Yerba"}]}
        order = book.put("1", "CAJA01", "v1", request, Decimal(10), at, at)
        merchant_order, _ = book.scan(order, at)
        book.pay(merchant_order, at, status="rejected" if number == 1 else "approved")
    orders = list(book.merchant_orders.values())
    return (
        [merchant_order_view(one, CONFIG) for one in orders],
        [payment_view(payment, one, CONFIG) for one in orders for payment in one.payments],
    )


def found(answer: dict[str, Any], member: str) -> list[str]:
    return [view["external_reference"] for view in answer[member] or ()]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({}, [0, 1, 2]),
        ({"external_reference": "sale-1"}, [1]),
        ({"external_reference": "sale-3"}, []),
        ({"status": "opened"}, [1]),
        ({"payer_id": "446566691", "items": "Yerba"}, [0, 1, 2]),
        ({"items": "Mate"}, []),
        ({"date_created_from": "2026-09-13T12:00:00Z"}, [0, 1]),
        ({"last_updated_to": "2026-09-13T12:00:00Z"}, [1, 2]),
        ({"limit": "1", "offset": "1"}, [1]),
    ],
)
def test_merchant_orders(views: tuple[Views, Views], query: dict[str, str], numbers: list[int]) -> None:
    answer = search_merchant_orders(views[0], query, NOW)
    assert found(answer, "elements") == [f"sale-{number}" for number in numbers]
    assert (answer["elements"] is None) is (not numbers)


def test_pages_say_where_they_end(views: tuple[Views, Views]) -> None:
    answer = search_merchant_orders(views[0], {"limit": "2"}, NOW)
    assert (answer["total"], answer["next_offset"]) == (3, 2)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({}, [0, 1, 2, 3]),
        ({"status": "rejected"}, [1]),
        ({"external_reference": "sale-3"}, [3]),
        ({"begin_date": "NOW-2DAYS", "end_date": "NOW"}, [0, 1]),
        ({"range": "date_approved", "begin_date": "NOW-2DAYS", "end_date": "NOW"}, [0]),
        ({"begin_date": "2026-06-01T00:00:00.000-04:00", "end_date": "2026-08-01T00:00:00Z"}, [2, 3]),
        ({"sort": "date_created", "criteria": "asc", "limit": "2"}, [3, 2]),
    ],
)
def test_payments(views: tuple[Views, Views], query: dict[str, str], numbers: list[int]) -> None:
    got = found(search_payments(views[1], query, NOW), "results")
    wanted = [f"sale-{number}" for number in numbers]
    assert got == wanted if "sort" in query else sorted(got) == sorted(wanted)


@pytest.mark.parametrize(
    "query",
    [
        {"range": "date"},
        {"begin_date": "yesterday"},
        {"begin_date": "NOW-366DAYS", "end_date": "NOW"},
        {"begin_date": "NOW", "end_date": "NOW-1DAY"},
        {"limit": "0"},
        {"offset": "-1"},
        {"sort": "colour"},
        {"criteria": "down"},
    ],
)
def test_wrong_searches_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadLegacySearch, match=r".+"):
        search_payments([], query, NOW)


def test_unknown_parameters_of_merchant_orders_are_refused() -> None:
    with pytest.raises(BadLegacySearch, match="colour"):
        search_merchant_orders([], {"colour": "red"}, NOW)
