"""`GET /merchant_orders/search` and `GET /v1/payments/search`: filters and paging (legacy sheet, §4, §5). Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from .clock import parse_time
from .money import Json

ORDERS_SEARCHED = timedelta(days=90)
PAYMENTS_SEARCHED = timedelta(days=366)
LONGEST_SPAN = timedelta(days=365)
MOST = 100
PAGING = ("limit", "offset")
ORDER_FILTERS = {
    "status": "status",
    "order_status": "order_status",
    "preference_id": "preference_id",
    "application_id": "application_id",
    "sponsor_id": "sponsor_id",
    "external_reference": "external_reference",
    "site_id": "site_id",
    "marketplace": "marketplace",
    "payer_id": "payer",
}
ORDER_DATES = {"date_created": "date_created", "last_updated": "last_updated"}
PAYMENT_FILTERS = ("external_reference", "status", "status_detail", "payment_type_id", "payment_method_id", "pos_id")
RANGES = ("date_created", "date_approved", "date_last_updated", "money_release_date")
_NOW = re.compile(r"^NOW(?:([+-])(\d{1,5})(MINUTE|HOUR|DAY|MONTH|YEAR)S?)?$")
_UNITS = {
    "MINUTE": timedelta(minutes=1),
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
    "MONTH": timedelta(days=30),
    "YEAR": timedelta(days=365),
}


class BadLegacySearch(Exception):  # noqa: N818 - names the refusal
    """400."""


def search_merchant_orders(views: Iterable[Json], query: Mapping[str, str], now: datetime) -> Json:
    """`{elements, total, next_offset}`, newest first; `elements` is null when there is nothing."""
    known = {*ORDER_FILTERS, *PAGING, "access_token", "items"}
    known |= {f"{name}_{end}" for name in ORDER_DATES for end in ("from", "to")}
    unknown = sorted(query.keys() - known)
    if unknown:
        raise BadLegacySearch(f"unknown parameter: {', '.join(unknown)}")
    limit, offset = _whole(query, "limit", 20, 1), _whole(query, "offset", 0, 0)
    found = [view for view in views if _order_matches(view, query, now)]
    found.sort(key=lambda view: (view["date_created"], view["id"]), reverse=True)
    page = found[offset : offset + limit]
    return {"elements": page or None, "total": len(found), "next_offset": offset + len(page)}


def _order_matches(view: Json, query: Mapping[str, str], now: datetime) -> bool:
    if parse_time(view["date_created"]) < now - ORDERS_SEARCHED:
        return False
    for name, member in ORDER_FILTERS.items():
        wanted = query.get(name)
        value = (view[member] or {}).get("id") if member == "payer" else view[member]
        if wanted and str(value) != wanted:
            return False
    if query.get("items") and query["items"] not in str(view["items"]):
        return False
    for name, member in ORDER_DATES.items():
        at = parse_time(view[member])
        begin, end = (_date(query.get(f"{name}_{which}"), now) for which in ("from", "to"))
        if (begin is not None and at < begin) or (end is not None and at > end):
            return False
    return True


def search_payments(views: Iterable[Json], query: Mapping[str, str], now: datetime) -> Json:
    """`{results, paging}`; by default newest first."""
    ranged = query.get("range", "date_created")
    begin, end = _date(query.get("begin_date"), now), _date(query.get("end_date"), now)
    if ranged not in RANGES:
        raise BadLegacySearch(f"range must be one of {', '.join(RANGES)}")
    if begin is not None and end is not None and not timedelta(0) <= end - begin <= LONGEST_SPAN:
        raise BadLegacySearch("the range of dates must be 0 to 365 days")
    limit, offset = _whole(query, "limit", 30, 1), _whole(query, "offset", 0, 0)
    sort, criteria = query.get("sort", "date_created"), query.get("criteria", "desc")
    if sort not in (*RANGES, "id", "external_reference") or criteria not in {"asc", "desc"}:
        raise BadLegacySearch("sort or criteria is not supported")

    def matches(view: Json) -> bool:
        if parse_time(view["date_created"]) < now - PAYMENTS_SEARCHED:
            return False
        if any(query.get(name) and str(view[name]) != query[name] for name in PAYMENT_FILTERS):
            return False
        if begin is None and end is None:
            return True
        at = None if view[ranged] is None else parse_time(view[ranged])
        return at is not None and (begin is None or at >= begin) and (end is None or at <= end)

    found = [view for view in views if matches(view)]
    found.sort(key=lambda view: (_key(view[sort]), view["id"]), reverse=criteria == "desc")
    paging = {"total": len(found), "limit": limit, "offset": offset}
    return {"results": found[offset : offset + limit], "paging": paging}


def _key(value: Any) -> str:
    return "" if value is None else str(value)


def _date(text: str | None, now: datetime) -> datetime | None:
    """`NOW`, `NOW-1DAYS`, or RFC 3339 (a `+` that the query string made a space is put back)."""
    if not text:
        return None
    relative = _NOW.match(text)
    if relative is not None:
        sign, count, unit = relative.groups()
        return now if sign is None else now + int(f"{sign}{count}") * _UNITS[unit]
    try:
        return parse_time(text.replace(" ", "+"))
    except (ValueError, OverflowError) as error:
        raise BadLegacySearch(f"{text} is no date") from error


def _whole(query: Mapping[str, str], name: str, default: int, low: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or int(text[:9]) < low:
        raise BadLegacySearch(f"{name} must be a number from {low}")
    return min(int(text[:9]), MOST) if name == "limit" else int(text[:9])
