"""Commands: what a till or a gateway asks the desk to do, and what became of it.

A handler has the intent written down, waits a little for its outcome, and tells what it finds; the call to the
provider is made by the desk's runner, so an answer that never arrives takes nothing back. The same key and request
find the same command again, and so the same answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import web

from service.desk.errors import (
    AlreadySent,
    DeskError,
    InvalidRequest,
    KeyReused,
    UnknownCommand,
    UnknownOrder,
    WrongState,
)
from service.mercadopago.account import DEFAULT_ACCOUNT, Account
from service.web.bodies import Asked, CreateBody, EmptyBody, LegacyPutBody, RefundBody
from service.web.command_models import Command
from service.web.cursors import decode_time, encode_time
from service.web.errors import ApiError, NotFound, json_response
from service.web.keys import KEY
from service.web.models import documents, page_json
from service.web.outcomes import outcome_answer, split_answer
from service.web.parameters import (
    CANCELABLE_ORDER_ID,
    COMMAND_ID,
    EXTERNAL_POS_ID,
    SYNCABLE_ORDER_ID,
    CommandParameters,
    CommandsParameters,
    LegacyDeleteParameters,
    NoParameters,
    RefundParameters,
    path_parameter,
)
from service.web.state import STATE
from service.web.statements import QUERIES, compose

_log = structlog.get_logger(__name__)

FIRST_LOOK_SECONDS: Final = 5.0
"""How long a command about an order that was just created waits for the first look at it."""
_POLL_SECONDS: Final = 0.05

_OPEN = frozenset({"waiting", "sending", "unknown", "accepted"})
_STATUSES: dict[type[DeskError], int] = {
    InvalidRequest: 400,
    UnknownOrder: 404,
    UnknownCommand: 404,
    KeyReused: 409,
    WrongState: 409,
    AlreadySent: 409,
}


async def create_order(request: web.Request, asked: Asked[CommandParameters, CreateBody]) -> web.Response:
    """An order at the provider: 201 with its own answer."""
    desk, account = _desk(request), account_to_use(request, asked.body.account)
    body, who = asked.body, request[KEY].name
    return await _command(
        request,
        asked.query,
        lambda: desk.create(account, body.order, key=asked.key, asked_by=who, is_named=bool(body.account)),
    )


async def cancel_order(request: web.Request, asked: Asked[CommandParameters, EmptyBody]) -> web.Response:
    """200 once a look at the order shows it canceled."""
    desk, order_id = _desk(request), path_parameter(request, "order_id", CANCELABLE_ORDER_ID)
    return await _command(
        request,
        asked.query,
        lambda: desk.cancel(order_id, key=asked.key, asked_by=request[KEY].name),
        of_order=order_id,
    )


async def refund_order(request: web.Request, asked: Asked[RefundParameters, RefundBody]) -> web.Response:
    """201 once a look at the order shows the refund."""
    desk, order_id = _desk(request), path_parameter(request, "order_id", SYNCABLE_ORDER_ID)
    body, who = asked.body, request[KEY].name
    return await _command(
        request,
        asked.query,
        lambda: desk.refund(order_id, payment_id=body.payment_id, amount=body.amount, key=asked.key, asked_by=who),
        of_order=order_id,
    )


async def put_legacy(request: web.Request, asked: Asked[CommandParameters, LegacyPutBody]) -> web.Response:
    """201 once the sale is on the printed QR. Whatever was there before is gone then."""
    desk, account = _desk(request), account_to_use(request, asked.body.account)
    external_pos_id = path_parameter(request, "external_pos_id", EXTERNAL_POS_ID)
    body, who = asked.body, request[KEY].name
    return await _command(
        request,
        asked.query,
        lambda: desk.put_legacy(
            account,
            external_pos_id,
            body.order,
            ttl_seconds=body.ttl_seconds,
            key=asked.key,
            asked_by=who,
            is_named=bool(body.account),
        ),
    )


async def delete_legacy(request: web.Request, asked: Asked[LegacyDeleteParameters, EmptyBody]) -> web.Response:
    """204 once nothing is on the printed QR."""
    desk, account = _desk(request), account_to_use(request, asked.query.account or None)
    external_pos_id = path_parameter(request, "external_pos_id", EXTERNAL_POS_ID)
    who, is_named = request[KEY].name, bool(asked.query.account)
    return await _command(
        request,
        asked.query,
        lambda: desk.delete_legacy(account, external_pos_id, key=asked.key, asked_by=who, is_named=is_named),
    )


async def withdraw_command(request: web.Request, asked: Asked[NoParameters, EmptyBody]) -> web.Response:
    """200 where it provably never left; 409 where it may have."""
    del asked
    desk, command_id = _desk(request), path_parameter(request, "command_id", COMMAND_ID)
    try:
        await desk.withdraw(command_id, asked_by=request[KEY].name)
    except DeskError as error:
        raise refusal(error) from None
    _log.info("command_withdrawn", command_id=command_id, key_name=request[KEY].name)
    command, _ = await _read(request, command_id)
    return json_response(f'{{"command":{command.to_json()}}}')


async def show_command(request: web.Request, asked: NoParameters) -> web.Response:
    """One command, settled or not."""
    del asked
    command, _ = await _read(request, path_parameter(request, "command_id", COMMAND_ID))
    return json_response(f'{{"command":{command.to_json()}}}')


async def list_commands(request: web.Request, asked: CommandsParameters) -> web.Response:
    """Latest asked first."""
    filters = {**command_filters(asked.account, asked.status, asked.kind, asked.order_id), "row_limit": asked.limit + 1}
    if asked.cursor is not None:
        behind = decode_time(asked.cursor)
        filters |= {"after_time": behind.moment, "after_id": behind.order_id}
    query, arguments = compose(QUERIES.list_commands, filters)
    rows = await request.app[STATE].database.fetch(query, *arguments)
    next_cursor = None
    if len(rows) > asked.limit:
        rows = rows[: asked.limit]
        next_cursor = encode_time("c", rows[-1]["asked_at"], rows[-1]["command_id"])
    return json_response(page_json(documents(Command, rows), next_cursor))


def command_filters(
    account: str | None, status: str | None, kind: str | None, order_id: str | None
) -> dict[str, object]:
    """Filters of the list. Open commands are few among many: said apart, so that their own index serves them."""
    return {
        "account": account or None,
        "status": status or None,
        "kind": kind or None,
        "order_id": order_id or None,
        "only_open": status in _OPEN or None,
    }


def account_to_use(request: web.Request, name: str | None) -> Account:
    """The account of that name; without one `default`, or the only one. Raises `ApiError`."""
    accounts = request.app[STATE].accounts()
    if name:
        named = accounts.by_name(name)
        if named is None:
            raise NotFound(f"no account named {name} is configured", "unknown_account")
        return named
    usual = accounts.by_name(DEFAULT_ACCOUNT) or (accounts.accounts[0] if len(accounts) == 1 else None)
    if usual is None:
        known = ", ".join(account.name for account in accounts)
        raise ApiError(
            400,
            "bad_parameters",
            "account: name the account; none is called default",
            details=[("account", f"one of {known}")],
        )
    return usual


def refusal(error: DeskError) -> ApiError:
    """What the desk would not write down, as an answer."""
    faults = error.faults if isinstance(error, InvalidRequest) else []
    return ApiError(
        _STATUSES.get(type(error), 409),
        error.code,
        error.message,
        details=[(fault.path, fault.message) for fault in faults],
    )


def _desk(request: web.Request) -> Any:
    desk = request.app[STATE].desk
    if desk is None:
        raise ApiError(503, "desk_unavailable", "commands are not taken by this process", headers={"Retry-After": "5"})
    return desk


async def _command(
    request: web.Request,
    query: CommandParameters | RefundParameters,
    ask: Callable[[], Awaitable[Any]],
    *,
    of_order: str | None = None,
) -> web.Response:
    """Has the intent written down, waits for its outcome as long as was asked, and answers.

    `of_order` is the order that the intent is about.
    """
    try:
        row = await (ask() if of_order is None else _once_stored(request, of_order, ask))
    except DeskError as error:
        raise refusal(error) from None
    _log.info(
        "command_asked", command_id=row.command_id, kind=row.kind, account=row.account, key_name=request[KEY].name
    )
    if query.wait_seconds and not row.is_settled:
        await _desk(request).wait(row.command_id, seconds=query.wait_seconds)
    command, answer = await _read(request, row.command_id)
    return await outcome_answer(request.app[STATE].database, command, answer)


async def _once_stored(request: web.Request, order_id: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    """A till may cancel what it created a moment ago, before any look has stored it: that look is had and awaited."""
    state, deadline, account = request.app[STATE], time.monotonic() + FIRST_LOOK_SECONDS, None
    while True:
        try:
            return await ask()
        except UnknownOrder:
            if account is None:
                account = await state.database.fetchval(QUERIES.read_creation, order_id)
                if account is None:
                    raise
                await state.mark_due(order_id, account)
            if time.monotonic() > deadline:
                words = f"order {order_id} was created here and has not been looked at yet; send this again"
                raise ApiError(409, "not_seen_yet", words, headers={"Retry-After": "1"}) from None
        await asyncio.sleep(_POLL_SECONDS)


async def _read(request: web.Request, command_id: str) -> tuple[Command, str | None]:
    """The command, and the provider's answer that decided it."""
    row = await request.app[STATE].database.fetchrow(QUERIES.read_command, command_id)
    if row is None:
        raise NotFound(f"no command {command_id} is stored here", "unknown_command")
    return split_answer(dict(row))
