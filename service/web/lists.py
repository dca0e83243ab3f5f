"""The lists besides orders: discrepancies, notifications, and what is in quarantine."""

from typing import Any

from aiohttp import web

from service.web.cursors import decode_id, decode_time, encode_id, encode_time
from service.web.errors import NotFound, json_response
from service.web.models import Discrepancy, Notification, SyncState, documents, page_json
from service.web.parameters import (
    NOTIFICATION_ID,
    ORDER_ID,
    DiscrepanciesParameters,
    NoParameters,
    NotificationsParameters,
    QuarantineParameters,
    matches,
    path_parameter,
)
from service.web.state import STATE
from service.web.statements import QUERIES, compose


async def list_discrepancies(request: web.Request, asked: DiscrepanciesParameters) -> web.Response:
    """Latest opened first; open ones unless something else is asked for."""
    filters: dict[str, object] = {
        "rule": asked.rule or None,
        "account": asked.account or None,
        "order_id": asked.order_id or None,
        "only_open": asked.state == "open" or None,
        "only_resolved": asked.state == "resolved" or None,
    }
    rows, next_cursor = await _page_by_id(request, "d", QUERIES.list_discrepancies, filters, asked.limit, asked.cursor)
    return json_response(page_json(documents(Discrepancy, rows), next_cursor))


async def list_notifications(request: web.Request, asked: NotificationsParameters) -> web.Response:
    """Latest first."""
    filters: dict[str, object] = {
        "account": asked.account or None,
        "topic": asked.topic or None,
        "resource_id": asked.resource_id or None,
        "order_id": asked.order_id or None,
        "verified": asked.verified,
        "verification": asked.verification or None,
        "action": asked.action or None,
        "since": asked.since,
    }
    rows, next_cursor = await _page_by_id(request, "n", QUERIES.list_notifications, filters, asked.limit, asked.cursor)
    return json_response(page_json(documents(Notification, rows), next_cursor))


async def show_notification(request: web.Request, asked: NoParameters) -> web.Response:
    """One notification by its id."""
    del asked
    given = path_parameter(request, "id", ORDER_ID)
    row = None
    # What could be an id and is no number of ours names nothing: not found, like any other number.
    if matches(NOTIFICATION_ID, given):
        query, arguments = compose(QUERIES.list_notifications, {"id": int(given), "row_limit": 1})
        row = await request.app[STATE].database.fetchrow(query, *arguments)
    if row is None:
        raise NotFound(f"no notification {given} is stored here")
    return json_response(Notification(**row).to_json())


async def list_quarantine(request: web.Request, asked: QuarantineParameters) -> web.Response:
    """The orders that are not looked at any more until somebody does something, latest first."""
    filters: dict[str, object] = {
        "account": asked.account or None,
        "reason": asked.reason or None,
        "row_limit": asked.limit + 1,
    }
    if asked.cursor is not None:
        behind = decode_time(asked.cursor)
        filters |= {"after_time": behind.moment, "after_id": behind.order_id}
    query, arguments = compose(QUERIES.list_quarantine, filters)
    rows = await request.app[STATE].database.fetch(query, *arguments)
    next_cursor = None
    if len(rows) > asked.limit:
        rows = rows[: asked.limit]
        next_cursor = encode_time("q", rows[-1]["quarantined_at"], rows[-1]["order_id"])
    return json_response(page_json(documents(SyncState, rows), next_cursor))


async def _page_by_id(
    request: web.Request, kind: str, template: str, filters: dict[str, object], limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """One page of a list that is ordered by id, and the cursor behind it where there is more."""
    filters["row_limit"] = limit + 1
    if cursor is not None:
        filters["after_id"] = decode_id(cursor)
    query, arguments = compose(template, filters)
    rows = await request.app[STATE].database.fetch(query, *arguments)
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode_id(kind, rows[limit - 1]["id"])
