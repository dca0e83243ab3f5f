"""What became of a command, as the answer to whoever asked for it.

    open                        202  command
    done      create            201  command, order: the provider's own answer
              cancel            200  command, order: its answer where that shows the cancellation
              refund            201  command, refunds
              legacy_put        201  command
              legacy_delete     204
    refused                     422  error, command
              the order exists  402  error, command, order: it was created, and its payment declined
    withdrawn                   409  error, command

All of it is read from what is stored, so it says the same for ever; only what blocks a busy terminal is told as of now.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

from service.database.pool import Database
from service.desk.outcome_table import BUSY_TERMINAL
from service.mercadopago.json_text import dumps
from service.web.command_models import Command, LiveSale, RefundMade
from service.web.errors import ApiError, json_response
from service.web.models import documents
from service.web.points_of_sale import open_orders_at
from service.web.statements import QUERIES

_CREATED = {"create": 201, "legacy_put": 201, "refund": 201, "cancel": 200}
_DECLINED = 402


def split_answer(row: Mapping[str, Any]) -> tuple[Command, str | None]:
    """A row of `read_command` as the command, and the provider's answer to it as JSON text."""
    return Command(**{name: row[name] for name in Command.model_fields}), row["answer"]


async def outcome_answer(database: Database, command: Command, answer: str | None) -> web.Response:
    """The answer. Raises `ApiError` where the command was refused or withdrawn."""
    shown = f'"command":{command.to_json()}'
    if command.settled_at is None:
        location = {"Location": f"/api/v1/commands/{command.command_id}"}
        return json_response(f"{{{shown}}}", status=202, headers=location)
    if command.status != "done":
        raise await _refusal(database, command, answer)
    if command.kind == "legacy_delete":
        return web.Response(status=204)
    if command.kind == "refund":
        rows = await database.fetch(QUERIES.read_refunds_made, command.order_id, command.refund_ids)
        shown += ',"refunds":[' + ",".join(one.to_json() for one in documents(RefundMade, rows)) + "]"
    elif command.kind in {"create", "cancel"} and (order := _order(command, answer)) is not None:
        shown += f',"order":{order}'
    return json_response(f"{{{shown}}}", status=_CREATED[command.kind])


def _order(command: Command, answer: str | None) -> str | None:
    """The order as the provider answered, every digit kept; None where the answer shows none, or not the outcome."""
    if answer is None:
        return None
    document = json.loads(answer)
    if command.kind == "cancel":
        # A terminal answers that it was asked to let go: that is not what became of it.
        return answer if document.get("status") == "canceled" else None
    return answer if document.get("id") == command.order_id else None


async def _refusal(database: Database, command: Command, answer: str | None) -> ApiError:
    beside = {"command": command.to_json()}
    if command.status == "withdrawn":
        return ApiError(409, "withdrawn", command.message or "it was withdrawn before it was sent", beside=beside)
    details = [
        (name, str(value))
        for name, value in (("provider_status", command.provider_status), ("provider_code", command.provider_code))
        if value is not None
    ]
    declined = command.kind == "create" and command.provider_status == _DECLINED and command.order_id is not None
    if declined and (order := _declined_order(answer)) is not None:
        beside["order"] = order
    if command.provider_code in BUSY_TERMINAL and command.point_of_sale is not None:
        details += await _what_blocks(database, command.account, command.point_of_sale)
    message = command.message or "Mercado Pago refused it"
    return ApiError(_DECLINED if declined else 422, "refused", message, details=details, beside=beside)


def _declined_order(answer: str | None) -> str | None:
    """The order in the `data` of a 402, every digit kept."""
    document = None if answer is None else json.loads(answer, parse_float=Decimal).get("data")
    return dumps(document) if isinstance(document, dict) else None


async def _what_blocks(database: Database, account: str, point_of_sale: str) -> list[tuple[str, str]]:
    async with database.acquire() as connection:
        blocking = await open_orders_at(connection, account, point_of_sale)
    if not blocking:
        none = f"no open order of {point_of_sale} is known here: look at the device, and clear what it shows"
        return [("blocking_order", none)]
    return [("blocking_order", _told(sale)) for sale in blocking]


def _told(sale: LiveSale) -> str:
    what = f"{sale.order_id} is {sale.status} since {sale.age_seconds:.0f} s"
    if sale.cancel is None:
        return f"{what}; {sale.not_cancelable}"
    return f"{what}; cancel it with {sale.cancel.method} {sale.cancel.path}"
