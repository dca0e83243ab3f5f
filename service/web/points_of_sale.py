"""What is live on each printed QR and terminal, how old it is, and the call that takes it away safely.

Three kinds of things are live: orders that are stored as open, legacy sales that the desk has put there, and commands
whose outcome is not known yet. What is not stored here (an order of another system, a print job) shows only on the
device.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiohttp import web

from service.desk.legacy_rules import LONGEST_TTL_SECONDS
from service.web.command_models import LiveSale, PointOfSale, PointsOfSale, SafeCancel
from service.web.errors import json_response
from service.web.parameters import PointsOfSaleParameters
from service.web.state import STATE
from service.web.statements import QUERIES, compose

if TYPE_CHECKING:
    from service.database.pool import Connection

MAX_ROWS: Final = 2000
LONGEST_LEGACY_SECONDS: Final = 2.0 * LONGEST_TTL_SECONDS
"""The longest from a sale's being asked for to its end: it may wait as long as it may live."""

_CANCELABLE = {"qr": {"created"}, "point": {"created", "at_terminal"}}


async def list_points_of_sale(request: web.Request, asked: PointsOfSaleParameters) -> web.Response:
    """Every point of sale with something live on it; all of an answer is one moment's state."""
    filters: dict[str, object] = {
        "account": asked.account or None,
        "point_of_sale": asked.point_of_sale or None,
        "row_limit": MAX_ROWS + 1,
    }
    async with (
        request.app[STATE].database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        orders = await _rows(connection, "list_open_orders_by_point_of_sale", filters)
        longest = {"longest_seconds": LONGEST_LEGACY_SECONDS}
        legacy = await _rows(connection, "list_live_legacy_sales", filters | longest)
        commands = await _rows(connection, "list_commands_under_way_by_point_of_sale", filters)
    truncated = any(len(rows) > MAX_ROWS for rows in (orders, legacy, commands))
    places = _places(orders[:MAX_ROWS], legacy[:MAX_ROWS], commands[:MAX_ROWS])
    return json_response(PointsOfSale(data=places, truncated=truncated).to_json())


async def open_orders_at(connection: "Connection", account: str, point_of_sale: str) -> list[LiveSale]:
    """The stored open orders of one point of sale, newest first."""
    filters: dict[str, object] = {"account": account, "point_of_sale": point_of_sale, "row_limit": MAX_ROWS}
    rows = await _rows(connection, "list_open_orders_by_point_of_sale", filters)
    commands = await _rows(connection, "list_commands_under_way_by_point_of_sale", filters)
    return [sale for place in _places(rows, [], commands) for sale in place.live if sale.what == "order"]


async def _rows(connection: "Connection", name: str, filters: dict[str, object]) -> list[Any]:
    query, arguments = compose(QUERIES[name], filters)
    return await connection.fetch(query, *arguments)


def _places(orders: Sequence[Any], legacy: Sequence[Any], commands: Sequence[Any]) -> list[PointOfSale]:
    cancellations = {row["order_id"]: row["command_id"] for row in commands if row["kind"] == "cancel"}
    deletions = {_place(row) for row in commands if row["kind"] == "legacy_delete"}
    shown = [
        *((row, _open_order(row, cancellations.get(row["order_id"]))) for row in orders),
        *((row, _legacy_sale(row, being_deleted=_place(row) in deletions)) for row in legacy),
        *((row, _command(row)) for row in commands),
    ]
    live: dict[tuple[str, str], list[LiveSale]] = {}
    for row, sale in shown:
        live.setdefault(_place(row), []).append(sale)
    return [
        PointOfSale(
            account=account,
            point_of_sale=point_of_sale,
            live=sorted(live[account, point_of_sale], key=lambda sale: sale.since, reverse=True),
        )
        for account, point_of_sale in sorted(live)
    ]


def _place(row: Any) -> tuple[str, str]:
    return row["account"], row["point_of_sale"]


def _open_order(row: Any, canceling: str | None) -> LiveSale:
    why = None
    if canceling is not None:
        why = f"its cancellation is on its way: command {canceling}"
    elif row["status"] not in _CANCELABLE.get(row["type"], {"created"}):
        why = "a payment is under way: look at the device, and refund what is paid"
    elif row["is_over"]:
        why = "its time is over: the next look shows how it ended"
    path = f"/api/v1/orders/{row['order_id']}/cancel"
    return _live("order", row, "POST", path, why, kind=None, command_id=None)


def _legacy_sale(row: Any, *, being_deleted: bool) -> LiveSale:
    why = "its deletion is on its way" if being_deleted else None
    status = row["status"] or "created"
    path = f"/api/v1/legacy-qr/{quote(row['point_of_sale'], safe='')}?account={quote(row['account'], safe='')}"
    return _live("legacy_sale", row, "DELETE", path, why, kind="legacy_put", type="legacy_qr", status=status)


def _command(row: Any) -> LiveSale:
    why = None if row["is_unsent"] else "it may have reached Mercado Pago: its outcome is being found out"
    return _live("command", row, "POST", f"/api/v1/commands/{row['command_id']}/withdraw", why)


def _live(what: str, row: Any, method: str, path: str, why: str | None, **fields: Any) -> LiveSale:
    values = {name: row.get(name) for name in LiveSale.model_fields if name in row} | fields
    return LiveSale(
        **values,
        what=what,
        cancelable=why is None,
        cancel=None if why is not None else SafeCancel(method=method, path=path),
        not_cancelable=why,
    )
