"""Orders: the list, one order now or as it was stored at a time, and the wish for a fresh look at one."""

from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from service.mercadopago.account import DEFAULT_ACCOUNT
from service.web.as_of import parts_at, read_parts, snapshot_of
from service.web.cursors import decode_time, encode_time
from service.web.errors import ApiError, NotFound, json_response
from service.web.keys import KEY
from service.web.models import Discrepancy, DueOrder, Order, OrderDetail, SyncState, documents, page_json
from service.web.parameters import (
    ORDER_ID,
    SYNCABLE_ORDER_ID,
    OrderParameters,
    OrdersParameters,
    SyncParameters,
    path_parameter,
)
from service.web.state import STATE, InternalState
from service.web.statements import QUERIES, compose

if TYPE_CHECKING:
    from service.database.pool import Connection

_log = structlog.get_logger(__name__)


async def list_orders(request: web.Request, asked: OrdersParameters) -> web.Response:
    """Newest change first. An order that changes while somebody pages moves to the top; it is never shown twice."""
    filters: dict[str, object] = {
        "account": asked.account or None,
        "status": asked.status or None,
        "type": asked.type or None,
        "external_reference": asked.external_reference or None,
        "updated_since": asked.updated_since,
        "row_limit": asked.limit + 1,
    }
    if filters["external_reference"] and not filters["account"]:
        filters["in_any_account"] = True
    if asked.cursor is not None:
        behind = decode_time(asked.cursor)
        if behind.moment is None:
            filters["after_undated_id"] = behind.order_id
        else:
            filters |= {"after_time": behind.moment, "after_id": behind.order_id}
    query, arguments = compose(QUERIES.list_orders, filters)
    rows = await request.app[STATE].database.fetch(query, *arguments)
    next_cursor = None
    if len(rows) > asked.limit:
        rows = rows[: asked.limit]
        next_cursor = encode_time("o", rows[-1]["updated_at"], rows[-1]["order_id"])
    return json_response(page_json(documents(Order, rows), next_cursor))


async def show_order(request: web.Request, asked: OrderParameters) -> web.Response:
    """One order: as it is stored, or as it was stored at `as_of`. All of an answer is one moment's state."""
    order_id = path_parameter(request, "order_id", ORDER_ID)
    state = request.app[STATE]
    async with (
        state.database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        if asked.as_of is None:
            detail = await order_now(connection, order_id)
        else:
            detail = await order_at(connection, order_id, asked.as_of)
    return json_response(detail.to_json())


async def order_now(connection: "Connection", order_id: str) -> OrderDetail:
    row = await connection.fetchrow(QUERIES.read_order, order_id)
    sync_row = await connection.fetchrow(QUERIES.read_sync, order_id)
    if row is None:
        if sync_row is None:
            raise NotFound(f"no order {order_id} is stored here")
        raise NotFound(f"order {order_id} is known by name only: its timeline says what became of the looks at it")
    return OrderDetail(
        **row,
        **(await read_parts(connection, order_id)).fields(),
        discrepancies=documents(Discrepancy, await connection.fetch(QUERIES.read_open_discrepancies, order_id)),
        sync=None if sync_row is None else SyncState(**sync_row),
    )


async def order_at(connection: "Connection", order_id: str, moment: datetime) -> OrderDetail:
    """What was stored at `moment`: its version's columns, the rest as that version's payload reads."""
    row = await connection.fetchrow(QUERIES.read_version_at, order_id, moment)
    if row is None:
        row = await connection.fetchrow(QUERIES.read_order_at, order_id, moment)
    if row is None:
        if await connection.fetchval(QUERIES.was_stored_at, order_id, moment):
            raise NotFound(
                f"order {order_id} was stored here at that time, but versions of that time are no longer kept",
                "no_longer_known",
            )
        raise NotFound(f"order {order_id} was not stored here at that time", "not_stored_then")
    snapshot = snapshot_of(order_id, row["payload"])
    parts = parts_at(snapshot, await read_parts(connection, order_id), moment)
    return OrderDetail(
        order_id=order_id,
        account=row["account"],
        user_id=snapshot.user_id,
        type=row["type"],
        external_reference=snapshot.external_reference,
        description=snapshot.description,
        status=row["status"],
        status_detail=row["status_detail"],
        total_amount=row["total_amount"],
        paid_amount=row["paid_amount"],
        refunded_amount=row["refunded_amount"],
        currency=row["currency"],
        country_code=snapshot.country_code,
        created_at=snapshot.created_at,
        updated_at=row["updated_at"],
        expires_at=snapshot.expires_at,
        fetched_at=row["fetched_at"],
        first_seen_at=row["first_seen_at"],
        changed_at=row["observed_at"],
        version=row["version"],
        as_of=moment,
        payload_altered=None,
        payload=row["payload"],
        **parts.fields(),
        discrepancies=documents(Discrepancy, await connection.fetch(QUERIES.read_discrepancies_at, order_id, moment)),
        sync=None,
    )


async def sync_order(request: web.Request, asked: SyncParameters) -> web.Response:
    """Marks an order due, stored or not; a stored one keeps its account whatever is asked."""
    order_id = path_parameter(request, "order_id", SYNCABLE_ORDER_ID)
    state = request.app[STATE]
    stored = await state.database.fetchval(QUERIES.order_account, order_id)
    account = _account_to_ask(state, stored or asked.account or None)
    await state.mark_due(order_id, account)
    _log.info("order_marked_due", order_id=order_id, account=account, key_name=request[KEY].name)
    return json_response(DueOrder(order_id=order_id, account=account).to_json(), status=202)


def _account_to_ask(state: InternalState, name: str | None) -> str:
    accounts = state.accounts()
    if name is not None:
        if accounts.by_name(name) is None:
            raise NotFound(f"no account named {name} is configured", "unknown_account")
        return name
    if accounts.by_name(DEFAULT_ACCOUNT) is not None:
        return DEFAULT_ACCOUNT
    if len(accounts) == 1:
        return accounts.accounts[0].name
    raise ApiError(
        400,
        "bad_parameters",
        "account: name the account; the order is not stored yet and no account is called default",
        details=[("account", "one of " + ", ".join(account.name for account in accounts))],
    )
