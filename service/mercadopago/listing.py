"""Pure: one page of a search, tolerant of both forms of paging (fact sheet of the Orders API, §6; legacy sheet, §4).

A search tells which orders there are. It is no truth about any of them: new ones appear late, and an empty page proves
nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from service.mercadopago.documents import Fields, count_of, object_of, parse_time, text_of
from service.mercadopago.errors import NonsenseAnswer
from service.mercadopago.json_text import NotJson, parse_json
from service.orders.money import parse_amount

_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ListedOrder:
    """One entry of a search. All but the id may be absent; an amount that cannot be read is None. Times are UTC."""

    order_id: str
    type: str | None
    status: str | None
    external_reference: str | None
    created_at: datetime | None
    updated_at: datetime | None
    total_amount: Decimal | None
    document: dict[str, object]


@dataclass(frozen=True, slots=True)
class OrdersPage:
    """One page. `total` is how many orders the search finds, where it says so; `skipped` counts entries without an id.

    `is_last` is said only where it is sure: the page is not full, and nothing that the answer says lies beyond it. So
    a last page that happens to be full is followed by an empty one.
    """

    orders: tuple[ListedOrder, ...]
    total: int | None
    is_last: bool
    skipped: int = 0


def read_orders_page(raw: bytes, *, page: int, page_size: int) -> OrdersPage:
    """Reads an answer of `GET /v1/orders` to a request for `page` (from 1) of `page_size`.

    Raises `NonsenseAnswer` where it is none, or states an offset that is not that of the page: whoever went on from
    it would miss orders.
    """
    answer = _object(raw)
    listed = _listed(answer, "data", "results")
    paging = object_of(answer.get("paging"))
    total = count_of(paging.get("total"))
    size = count_of(paging.get("limit")) or count_of(paging.get("page_size")) or 0
    offset = _offset(paging, page, size)
    orders = tuple(_orders(listed))
    nothing_beyond = not listed if total is None or offset is None else offset + len(listed) >= total
    is_full = len(listed) >= (size or page_size)
    return OrdersPage(orders, total, is_last=nothing_beyond and not is_full, skipped=len(listed) - len(orders))


def _offset(paging: Fields, page: int, size: int) -> int | None:
    """Where the page begins, by what the answer says of itself; None where it does not say.

    `size` is the page's size as stated, 0 for none: a provider that gives fewer than were asked for, and does not say
    so, begins its pages elsewhere than one would reckon.
    """
    stated, number = count_of(paging.get("offset")), count_of(paging.get("page"))
    reckoned = 0 if page == 1 else (page - 1) * size or None
    is_anothers = stated is not None and (stated == 0 if reckoned is None else stated != reckoned)
    if is_anothers or (number is not None and number != page):
        raise NonsenseAnswer(f"the search was asked for page {page} and answers with another", status=200)
    return reckoned if stated is None else stated


def read_merchant_order_ids(raw: bytes) -> tuple[tuple[str, ...], int | None]:
    """The numbers in an answer of `GET /merchant_orders/search`, and where the next page begins; None for no more.

    `elements` is null where nothing is found. Raises `NonsenseAnswer` where the answer is none.
    """
    answer = _object(raw)
    elements = _listed(answer, "elements", "results")
    numbers = [text_of(object_of(element).get("id")) for element in elements]
    found = tuple(dict.fromkeys(number for number in numbers if number and number.isascii() and number.isdigit()))
    next_offset, total = count_of(answer.get("next_offset")), count_of(answer.get("total"))
    more = bool(elements) and next_offset is not None and total is not None and next_offset < total
    return found, next_offset if more else None


def _object(raw: bytes) -> Fields:
    try:
        value = parse_json(raw).value
    except NotJson as error:
        raise NonsenseAnswer(f"the answer is not JSON: {error}", status=200) from None
    if not isinstance(value, dict):
        raise NonsenseAnswer("the answer is JSON, but no object", status=200)
    return value


def _listed(answer: Fields, *names: str) -> list[object]:
    """The list under the first of the names that the answer has; null is an empty one. Raises `NonsenseAnswer`."""
    name = next((name for name in names if name in answer), None)
    listed = [] if name is not None and answer[name] is None else answer.get(name or "")
    if name is None or not isinstance(listed, list):
        raise NonsenseAnswer(f"the answer to a search has no list of {names[0]}", status=200)
    return listed


def _orders(listed: list[object]) -> Iterator[ListedOrder]:
    for entry in listed:
        order_id = text_of(entry.get("id")) if isinstance(entry, dict) else None
        if isinstance(entry, dict) and order_id and _ORDER_ID.fullmatch(order_id):
            yield ListedOrder(
                order_id=order_id,
                type=text_of(entry.get("type")),
                status=text_of(entry.get("status")),
                external_reference=text_of(entry.get("external_reference")) or None,
                created_at=parse_time(entry.get("created_date")),
                updated_at=parse_time(entry.get("last_updated_date")),
                total_amount=_amount(entry.get("total_amount")),
                document=entry,
            )


def _amount(value: object) -> Decimal | None:
    try:
        return None if value is None else parse_amount(value)
    except ValueError:
        return None
