"""The provider's API routes that read: order, search, users/me; and the wrapper all of its routes run in."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from . import errors
from .faults import LEGACY_OPERATIONS, ApiFault
from .ids import is_order_id
from .ledger import SimulatedOrder
from .money import SITES
from .payloads import dump_json
from .search import BadSearch, read_search, run_search
from .world import WORLD, World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GARBAGE = b'\x00\xff\xfe{"id": not json at all'
LATENCY = web.RequestKey("latency_seconds", float)
"""Where a write finds the wait that faults ask of it."""
TARGETS = ("order_id", "payment_id", "merchant_order_id", "external_pos_id")
"""The parts of a path that say what a call is about."""
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"


class NoAnswer(Exception):  # noqa: N818 - names what happened
    """The connection was closed without an answer."""


def provider_route(operation: str, handler: Handler) -> Handler:
    """`handler` behind the faults in force, with the provider's `Date`, written down in the request log."""

    async def serve(request: web.Request) -> web.StreamResponse:
        world = request.app[WORLD]
        began = time.perf_counter()
        status: int | None = None
        fault: ApiFault | None = None
        try:
            world.expire_due()
            target = next((request.match_info[name] for name in TARGETS if name in request.match_info), None)
            order = world.ledger.orders.get(target) if target else None
            subject = order.key if order else target or ""
            effect = world.faults.decide(operation, subject, target)
            fault = effect.fault
            response = await _with_fault(operation, request, handler, fault, effect.latency_seconds)
            status = response.status
            if not response.prepared:
                response.headers["Date"] = http_date(world.clock.now())
            return response
        except NoAnswer:
            return web.Response(status=500)  # goes nowhere: the connection is closed
        finally:
            world.requests.add(
                {
                    "at": world.clock_state()["now"],
                    "method": request.method,
                    "path": request.path,
                    "query": {name: value for name, value in request.query.items() if "token" not in name.lower()},
                    "operation": operation,
                    "status": status,
                    "seconds": round(time.perf_counter() - began, 6),
                    "fault": None if fault is None else fault.body or str(fault.status),
                }
            )

    return serve


async def _with_fault(
    operation: str, request: web.Request, handler: Handler, fault: ApiFault | None, latency_seconds: float
) -> web.StreamResponse:
    """Latency of a read comes before the answer is looked up, that of a write after it took effect."""
    response = None
    request[LATENCY] = latency_seconds
    if request.method != "GET" and (fault is None or fault.when == "after"):
        response = await handler(request)
    await asyncio.sleep(request.pop(LATENCY, 0.0))
    if fault is not None:
        return await _faulty(operation, request, handler, fault, response)
    return response if response is not None else await handler(request)


async def _faulty(
    operation: str, request: web.Request, handler: Handler, fault: ApiFault, response: web.StreamResponse | None
) -> web.StreamResponse:
    """The answer of a call that a fault has hit. `response` is what a write would have been answered."""
    world = request.app[WORLD]
    order = world.ledger.orders.get(request.match_info.get("order_id", ""))
    status = fault.status or 200
    if fault.body in {"hang", "disconnect"}:
        if fault.body == "hang":
            await _hang(world)
        raise _closed(request)
    if fault.body is None:
        words = errors.default_legacy_error if operation in LEGACY_OPERATIONS else errors.default_error
        answer = words(status, fault.code, fault.message)
    elif fault.body == "html":
        answer = web.Response(status=status, body=HTML, content_type="text/html")
    else:
        if response is None and operation in LEGACY_OPERATIONS and request.method == "GET":
            response = await handler(request)
        good = _good_body(order, response)
        if fault.body == "cut":
            return await _cut(request, status, good)
        answer = errors.json_response(status, _odd_body(world, order, good, fault))
    if 300 <= status < 400:
        answer.headers["Location"] = "https://www.mercadopago.com/maintenance"
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = fault.retry_after
    if fault.retry_after_date is not None:
        answer.headers["Retry-After"] = http_date(world.clock.now() + timedelta(seconds=fault.retry_after_date))
    return answer


def _good_body(order: SimulatedOrder | None, response: web.StreamResponse | None) -> bytes:
    """What is bent: the answer a write would have got, else the order, else a search that found nothing."""
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        return response.body
    return order.rendered if order else dump_json({"data": [], "paging": {"total": "0"}})


def _odd_body(world: World, order: SimulatedOrder | None, good: bytes, fault: ApiFault) -> bytes:
    if fault.body == "foreign":
        other = world.ledger.neighbour_of(order.order_id) if order else None
        return other.rendered if other else dump_json((order.view if order else {}) | {"id": "ORD" + "0" * 26})
    if fault.body == "stale":
        return order.previous or good if order else good
    if fault.body == "oversized":
        return good[:-1] + b',"x_padding":"' + b"x" * fault.size_bytes + b'"}'
    plain: dict[str | None, bytes] = {"garbage": GARBAGE, "array": b"[]", "empty": b""}
    return plain.get(fault.body, good[: len(good) // 2])


async def _hang(world: World) -> None:
    try:
        await asyncio.wait_for(world.closing.wait(), world.config.hang_seconds)
    except TimeoutError:
        return


def _closed(request: web.Request) -> NoAnswer:
    if request.transport is not None:
        request.transport.abort()
    return NoAnswer()


async def _cut(request: web.Request, status: int, good: bytes) -> web.StreamResponse:
    """Promise the whole body, send half of it, and close."""
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
    response.content_length = len(good)
    await response.prepare(request)
    await response.write(good[: len(good) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def http_date(at: datetime) -> str:
    """RFC 9110 date."""
    return format_datetime(at, usegmt=True)


def seller_of(request: web.Request) -> str | None:
    """The seller a token speaks for; `None`: everyone's (no tokens are configured). Raises the 401 or 403 itself."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refused(errors.unauthorized())
    if token.startswith("TEST-"):
        raise Refused(errors.policy_agent())
    tokens = request.app[WORLD].config.access_tokens
    if not tokens:
        return None
    if token not in tokens:
        raise Refused(errors.unauthorized("invalid access token"))
    return tokens[token]


class Refused(Exception):  # noqa: N818 - carries the answer
    """The request is answered with an error already."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(str(response.status))
        self.response = response


def refusable(handler: Handler) -> Handler:
    """`handler`, whose `Refused` is the answer."""

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return refused.response

    return serve


def find_order(request: web.Request) -> SimulatedOrder:
    """The order of the path, if the caller may see it."""
    seller = seller_of(request)
    order_id = request.match_info["order_id"]
    order = request.app[WORLD].ledger.orders.get(order_id)
    if order is None and not is_order_id(order_id):
        raise Refused(errors.default_error(400))
    if order is None or (seller is not None and order.owner not in {None, seller}):
        raise Refused(errors.default_error(404))
    return order


def _is_too_old(world: World, order: SimulatedOrder) -> bool:
    days = world.rules.orders_shown_days
    return days is not None and world.clock.now() - order.created_at > timedelta(days=days)


async def get_order(request: web.Request) -> web.Response:
    """`GET /v1/orders/{order_id}`."""
    order = find_order(request)
    if _is_too_old(request.app[WORLD], order):
        return errors.default_error(404)
    return errors.json_response(200, order.rendered)


async def search_orders(request: web.Request) -> web.Response:
    """`GET /v1/orders`."""
    world, seller = request.app[WORLD], seller_of(request)
    now = world.clock.now()
    try:
        search = read_search(request.query, now)
    except BadSearch as bad:
        return errors.error(400, bad.code, bad.message, bad.details)
    lag_seconds, listed = world.faults.indexing_lag_seconds, world.rules.search_lists
    return errors.json_response(200, run_search(world.ledger, search, now, seller, lag_seconds, listed))


async def users_me(request: web.Request) -> web.Response:
    """`GET /users/me`: whose token this is."""
    config = request.app[WORLD].config
    seller = seller_of(request) or config.user_id
    profile: dict[str, Any] = {
        "id": int(seller) if seller.isdigit() else seller,
        "nickname": f"SIMULATED{seller}",
        "site_id": config.site,
        "country_id": SITES[config.site].alpha2,
        "user_type": "normal",
        "tags": ["normal"],
    }
    return errors.json_response(200, dump_json(profile))


def routes() -> list[web.RouteDef]:
    """The routes that read."""
    return [
        web.get("/v1/orders", provider_route("search", refusable(search_orders)), allow_head=False),
        web.get("/v1/orders/{order_id}", provider_route("get_order", refusable(get_order)), allow_head=False),
        web.get("/users/me", provider_route("me", refusable(users_me)), allow_head=False),
    ]
