"""Search: what it demands, what it finds, how it pages."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.simulator.clock import format_time
from service.simulator.ledger import Ledger
from service.simulator.search import BadSearch, read_search, run_search
from service.simulator.spec import read_spec


def window(now: datetime, **more: str) -> dict[str, str]:
    begin, end = format_time(now - timedelta(days=1)), format_time(now + timedelta(days=1))
    return {"begin_date": begin, "end_date": end} | more


def search(ledger: Ledger, now: datetime, lag_seconds: float = 0, **more: str) -> dict[str, Any]:
    query = window(now, **more)
    found: dict[str, Any] = json.loads(run_search(ledger, read_search(query, now), now, None, lag_seconds))
    return found


def references(found: dict[str, Any]) -> list[str]:
    return [order["external_reference"] for order in found["data"]]


@pytest.fixture
def five(ledger: Ledger, now: datetime) -> Ledger:
    for number in range(5):
        status = "processed" if number % 2 else "created"
        created = format_time(now + timedelta(seconds=number))
        spec = {"external_reference": f"sale-{number}", "status": status, "created_date": created}
        ledger.create(read_spec(spec), now)
    return ledger


def test_newest_first_with_paging_in_strings(five: Ledger, now: datetime) -> None:
    found = search(five, now, page="2", page_size="2")
    assert references(found) == ["sale-2", "sale-1"]
    assert found["paging"] == {"total": "5", "total_pages": "3", "offset": "2", "limit": "2"}
    assert references(search(five, now, offset="4", limit="50")) == ["sale-0"]
    assert search(five, now)["paging"]["limit"] == "20"
    assert search(five, now, offset="0")["paging"]["limit"] == "30"
    assert references(search(five, now, sort_order="asc")) == [f"sale-{n}" for n in range(5)]


def test_filters_and_sorting_by_change(five: Ledger, now: datetime) -> None:
    assert references(search(five, now, status="processed")) == ["sale-3", "sale-1"]
    assert references(search(five, now, external_reference="sale-2")) == ["sale-2"]
    assert references(search(five, now, type="point")) == []
    first = next(order for order in five.in_order() if order.status == "created")
    five.patch(first, {"description": "late"}, now + timedelta(hours=1))
    assert references(search(five, now, sort_by="last_updated_date"))[0] == "sale-0"


def test_payment_method_filters(five: Ledger, now: datetime) -> None:
    spec = {"external_reference": "pix", "type": "online", "status": "action_required"}
    five.create(read_spec(spec), now)
    assert references(search(five, now, payment_method_id="pix")) == ["pix"]
    assert references(search(five, now, payment_method_type="bank_transfer")) == ["pix"]


def test_new_orders_appear_late(five: Ledger, now: datetime) -> None:
    assert search(five, now, lag_seconds=5)["data"] == []
    query = read_search(window(now), now)
    assert json.loads(run_search(five, query, now + timedelta(seconds=5), None, 5))["paging"]["total"] == "5"


def test_the_window_is_on_creation_and_both_ends_count(five: Ledger, now: datetime) -> None:
    query = {"begin_date": format_time(now), "end_date": format_time(now + timedelta(seconds=1))}
    found = json.loads(run_search(five, read_search(query, now), now, None, 0))
    assert references(found) == ["sale-1", "sale-0"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"begin_date": ""}, "missing_required_params"),
        ({"end_date": "yesterday"}, "invalid_parameter"),
        ({"end_date": "2026-11-30T00:00:00Z"}, "invalid_parameter"),
        ({"begin_date": "2026-09-15T00:00:00Z"}, "invalid_parameter"),
        ({"begin_date": "2020-09-14T00:00:00Z", "end_date": "2020-09-15T00:00:00Z"}, "invalid_parameter"),
        ({"end_date": "2026-09-01T00:00:00Z"}, "invalid_parameter"),
        ({"page": "0"}, "invalid_parameter"),
        ({"page_size": "101"}, "invalid_parameter"),
        ({"limit": "x"}, "invalid_parameter"),
        ({"sort_by": "status"}, "invalid_parameter"),
    ],
)
def test_wrong_parameters(now: datetime, change: dict[str, str], code: str) -> None:
    with pytest.raises(BadSearch) as refused:
        read_search(window(now) | change, now)
    assert refused.value.code == code


def test_the_range_error_is_the_observed_one(now: datetime, captured: Any) -> None:
    with pytest.raises(BadSearch) as refused:
        read_search({"begin_date": "2026-08-01T00:00:00Z", "end_date": "2026-09-01T00:00:00Z"}, now)
    (error,) = captured("errors/400-search-range.json")["errors"]
    told = {"code": refused.value.code, "message": refused.value.message, "details": list(refused.value.details)}
    assert told == error
