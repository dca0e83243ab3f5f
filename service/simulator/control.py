"""The control API's own ground: reading bodies, its errors, and the routes about orders. Bodies: package docstring."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from . import lifecycle
from .deliveries import NO_TALLY
from .errors import json_response
from .ledger import Change, SimulatedOrder
from .lifecycle import Chance, Forbidden
from .money import Json, amount_text
from .payloads import dump_json
from .spec import read_spec
from .world import WORLD

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NOTIFY = "notify"


class ControlError(Exception):
    """A control request that cannot be served: `{"error":{"code","message"}}`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def control_route(handler: Handler) -> Handler:
    """`handler` with the control API's errors; expiries that are due come first."""

    async def serve(request: web.Request) -> web.StreamResponse:
        request.app[WORLD].expire_due()
        try:
            return await handler(request)
        except ControlError as error:
            status, code, message = error.status, error.code, str(error)
        except Forbidden as forbidden:
            status, code, message = 409, forbidden.code, str(forbidden)
        except ValueError as bad:
            status, code, message = 400, "bad_request", str(bad)
        return answer({"error": {"code": code, "message": message}}, status)

    return serve


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer of the control API."""
    return json_response(status, dump_json(body))


async def body_of(request: web.Request, *known: str) -> Json:
    """The request's JSON object (absent: empty), with no other members than the known ones, if any are named."""
    text = await request.read()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ControlError(400, "json_syntax_error", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ControlError(400, "bad_request", "the body must be a JSON object")
    unknown = body.keys() - set(known)
    if known and unknown:
        raise ControlError(400, "bad_request", f"unknown members: {', '.join(sorted(unknown))}")
    return body


def whole_number(request: web.Request, name: str, default: int) -> int:
    """A query parameter that counts."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise ControlError(400, "bad_request", f"{name} must be a whole number, not {text!r}")
    return int(text)


def text_member(body: Mapping[str, Any], name: str) -> str | None:
    """A member that is a text, or absent."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {value!r}")
    return value


def _amount(body: Mapping[str, Any], name: str) -> str | None:
    return None if body.get(name) is None else amount_text(body[name])


def _notify_of(body: Mapping[str, Any]) -> bool | str:
    notify = body.get(NOTIFY, True)
    if not isinstance(notify, bool | str):
        raise ControlError(400, "bad_request", "notify must be true, false or an action such as order.refunded")
    return notify


def order_of(request: web.Request) -> SimulatedOrder:
    """The order of the path."""
    order = request.app[WORLD].ledger.orders.get(request.match_info["order_id"])
    if order is None:
        raise ControlError(404, "order_not_found", f"the simulator has no order {request.match_info['order_id']}")
    return order


async def create(request: web.Request) -> web.Response:
    """`POST /_sim/orders`."""
    world = request.app[WORLD]
    body = await body_of(request)
    notify = _notify_of(body)
    body.pop(NOTIFY, None)
    if "raw" in body:
        if body.keys() != {"raw"} or not isinstance(body["raw"], dict):
            raise ControlError(400, "bad_request", "raw must be an object, and stand alone (but for notify)")
        order = world.ledger.plant(body["raw"], world.clock.now())
        world.happened(order, lifecycle.event_of(order.body), notify)
    else:
        order, event = world.ledger.create(read_spec(body), world.clock.now())
        world.happened(order, event, notify)
        world.took_place(order)
    return json_response(201, order.rendered)


def _changing(read: Callable[[Json], Change], *known: str) -> Handler:
    """A route that lets something happen to one order; `read` makes the change out of the request's body."""

    async def serve(request: web.Request) -> web.StreamResponse:
        order = order_of(request)
        body = await body_of(request, NOTIFY, *known)
        request.app[WORLD].change(order, read(body), _notify_of(body))
        return json_response(200, order.rendered)

    return serve


def _pay(body: Json) -> Change:
    method = body.get("payment_method")
    if method is not None and not isinstance(method, dict):
        raise ValueError("payment_method must be an object with id and type")
    paid, tip, provider = _amount(body, "paid_amount"), _amount(body, "tip_amount"), text_member(body, "provider")
    return lambda order, chance: lifecycle.pay(
        order, chance, paid_amount=paid, tip_amount=tip, payment_method=method, provider=provider
    )


def _refund(body: Json) -> Change:
    amount, payment_id, refund_id = _amount(body, "amount"), text_member(body, "payment_id"), body.get("refund_id")
    status = body.get("status", "processed")
    if status not in {"processed", "processing", "failed"}:
        raise ValueError("status must be processed, processing or failed")
    if refund_id is not None and status == "processing":
        raise ValueError("a refund_id ends processed or failed")

    def change(order: Json, chance: Chance) -> str | None:
        if refund_id is not None:
            lifecycle.end_refund(order, str(refund_id), status)
        else:
            lifecycle.refund(order, chance, amount=amount, payment_id=payment_id, status=status)
        return lifecycle.event_of(order) if status == "processed" else None

    return change


def _chargeback(body: Json) -> Change:
    amount, status = _amount(body, "amount"), body.get("status", "in_process")
    if status not in {"in_process", "settled", "reimbursed"}:
        raise ValueError("status must be in_process, settled or reimbursed")
    return lambda order, chance: lifecycle.chargeback(order, chance, status=status, amount=amount)


def _with_detail(change: Callable[..., str | None]) -> Callable[[Json], Change]:
    def read(body: Json) -> Change:
        detail = text_member(body, "status_detail")
        return lambda order, _: change(order, status_detail=detail)

    return read


def _fail(body: Json) -> Change:
    detail = text_member(body, "status_detail")
    return lambda order, chance: lifecycle.fail(order, chance, status_detail=detail)


async def patch(request: web.Request) -> web.Response:
    """`POST /_sim/orders/{order_id}/patch`."""
    world, order = request.app[WORLD], order_of(request)
    body = await body_of(request, NOTIFY, "merge", "raw", "touch")
    changes = [name for name in ("merge", "raw") if isinstance(body.get(name), dict)]
    if len(changes) != 1:
        raise ControlError(400, "bad_request", "patch needs one object, merge or raw")
    if changes == ["raw"]:
        world.ledger.replace(order, body["raw"])
    else:
        world.ledger.patch(order, body["merge"], world.clock.now(), touch=body.get("touch", True) is not False)
    world.happened(order, lifecycle.event_of(order.body), _notify_of(body))
    return json_response(200, order.rendered)


async def list_orders(request: web.Request) -> web.Response:
    """`GET /_sim/orders`: the truth to compare with."""
    world = request.app[WORLD]
    everything = list(world.ledger.in_order())
    offset, limit = whole_number(request, "offset", 0), whole_number(request, "limit", len(everything))
    page = everything[offset : offset + limit]
    tallies = world.notifier.log.tallies
    deliveries = {order.order_id: tallies.get(order.order_id, NO_TALLY).as_json() for order in page}
    rest = {"deliveries": deliveries, "paging": {"total": len(everything), "limit": limit, "offset": offset}}
    data = b",".join(order.rendered for order in page)
    return json_response(200, b'{"data":[' + data + b"]," + dump_json(rest)[1:])


async def read_order(request: web.Request) -> web.Response:
    """`GET /_sim/orders/{order_id}`."""
    return json_response(200, order_of(request).rendered)


def routes() -> list[web.RouteDef]:
    """The control routes about orders."""
    order = "/_sim/orders/{order_id}"
    changes: dict[str, Handler] = {
        "pay": _changing(_pay, "paid_amount", "tip_amount", "payment_method", "provider"),
        "refund": _changing(_refund, "amount", "payment_id", "refund_id", "status"),
        "expire": _changing(lambda _: lambda body, _chance: lifecycle.expire(body)),
        "cancel": _changing(_with_detail(lifecycle.cancel), "status_detail"),
        "chargeback": _changing(_chargeback, "status", "amount"),
        "terminal": _changing(lambda _: lambda body, _chance: lifecycle.terminal(body)),
        "processing": _changing(_with_detail(lifecycle.processing), "status_detail"),
        "action_required": _changing(_with_detail(lifecycle.action_required), "status_detail"),
        "fail": _changing(_fail, "status_detail"),
        "patch": patch,
    }
    return [
        web.post("/_sim/orders", control_route(create)),
        web.get("/_sim/orders", control_route(list_orders)),
        web.get(order, control_route(read_order)),
        *(web.post(f"{order}/{name}", control_route(handler)) for name, handler in changes.items()),
    ]
