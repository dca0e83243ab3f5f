"""`GET /v1/orders`: its parameters, filters and paging (orders fact sheet, §6). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from .clock import parse_time
from .ledger import Ledger
from .money import Json
from .payloads import dump_json, payments_of

LONGEST_RANGE = timedelta(days=30)
OLDEST_BEGIN = timedelta(days=5 * 366)
MAX_PAGE = 100
FILTERS = ("external_reference", "type", "status", "status_detail")
METHOD_FILTERS = {"payment_method_id": "id", "payment_method_type": "type"}


class BadSearch(Exception):  # noqa: N818 - names the refusal
    """400. `code`, `message` and `details` as the API words them."""

    def __init__(self, code: str, message: str, *details: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True, slots=True)
class Search:
    """One search; `begin` and `end` are both included."""

    begin: datetime
    end: datetime
    offset: int
    limit: int
    sort_by: str
    descending: bool
    filters: Mapping[str, str]


def read_search(query: Mapping[str, str], now: datetime) -> Search:
    """The search a query string asks for. Raises `BadSearch`."""
    missing = [name for name in ("begin_date", "end_date") if not query.get(name)]
    if missing:
        details = [f"missing parameter: {name}" for name in missing]
        raise BadSearch("missing_required_params", "Missing required parameters", *details)
    begin, end = (_date(query, name) for name in ("begin_date", "end_date"))
    if end < begin or begin > now or begin < now - OLDEST_BEGIN:
        raise BadSearch("invalid_parameter", "Invalid date range", "date range: begin_date is out of range")
    if end - begin > LONGEST_RANGE:
        raise BadSearch("invalid_parameter", "Invalid date range", "date range: maximum allowed is 1 month")
    offset, limit = _window(query)
    sort_by = query.get("sort_by", "created_date")
    sort_order = query.get("sort_order", "desc")
    if sort_by not in {"created_date", "last_updated_date"} or sort_order not in {"asc", "desc"}:
        raise BadSearch("invalid_parameter", "Invalid parameter", "sort_by, sort_order")
    filters = {name: query[name] for name in (*FILTERS, *METHOD_FILTERS) if query.get(name)}
    return Search(begin, end, offset, limit, sort_by, sort_order == "desc", filters)


def run_search(
    ledger: Ledger,
    search: Search,
    now: datetime,
    seller: str | None,
    lag_seconds: float,
    listed_types: frozenset[str] | None = None,
) -> bytes:
    """The answer `{data, paging}`, numbers of the paging as strings. New orders appear `lag_seconds` late.

    `listed_types` are the types of order that are found at all; None: every one.
    """
    indexed_until = now - timedelta(seconds=lag_seconds)
    found = [
        order
        for order in ledger.created_between(search.begin, search.end)
        if order.indexed_at <= indexed_until
        and (seller is None or order.owner in {None, seller})
        and (listed_types is None or order.body.get("type") in listed_types)
        and _matches(order.view, search.filters)
    ]
    if search.sort_by == "last_updated_date":
        found.sort(key=lambda order: (order.updated_at, order.order_id))
    if search.descending:
        found.reverse()
    page = found[search.offset : search.offset + search.limit]
    paging = {
        "total": str(len(found)),
        "total_pages": str(-(-len(found) // search.limit)),
        "offset": str(search.offset),
        "limit": str(search.limit),
    }
    return b'{"data":[' + b",".join(order.rendered for order in page) + b'],"paging":' + dump_json(paging) + b"}"


def _date(query: Mapping[str, str], name: str) -> datetime:
    try:
        return parse_time(query[name])
    except (ValueError, OverflowError) as error:
        raise BadSearch("invalid_parameter", "Invalid parameter", f"{name}: expected RFC 3339") from error


def _window(query: Mapping[str, str]) -> tuple[int, int]:
    """Offset and limit of `page`/`page_size` (20) or, when neither is given, of `offset`/`limit` (30)."""
    if "page" in query or "page_size" in query or not ("limit" in query or "offset" in query):
        size = _whole(query, "page_size", 20, 1, MAX_PAGE)
        return (_whole(query, "page", 1, 1) - 1) * size, size
    return _whole(query, "offset", 0, 0), _whole(query, "limit", 30, 1, MAX_PAGE)


def _whole(query: Mapping[str, str], name: str, default: int, low: int, high: int = 10**9) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or not low <= int(text[:12]) <= high:
        raise BadSearch("invalid_parameter", "Invalid parameter", f"{name}: expected a number from {low}")
    return int(text)


def _matches(view: Json, filters: Mapping[str, str]) -> bool:
    for name, wanted in filters.items():
        if name in METHOD_FILTERS:
            methods = (payment.get("payment_method") for payment in payments_of(view))
            if not any(isinstance(m, dict) and m.get(METHOD_FILTERS[name]) == wanted for m in methods):
                return False
        elif str(view.get(name)) != wanted:
            return False
    return True
