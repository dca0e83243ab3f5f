"""Merchant orders and the Payments API as far as the legacy attended QR needs them (legacy fact sheet, §4 and §5)."""

from datetime import timedelta

from aiohttp import web

from . import counter, errors
from .idempotent import Answer, Wording, idempotent
from .in_store import MerchantOrder, NotPossible, Payment
from .in_store_rules import read_refund
from .in_store_shapes import merchant_order_view, payment_view, refund_view
from .legacy_api import caller_of
from .legacy_search import BadLegacySearch, search_merchant_orders, search_payments
from .money import Json
from .order_payments import find_order_payment, order_payment_view
from .payloads import dump_json
from .provider import Handler, Refused, provider_route, refusable
from .schema import Invalid
from .world import WORLD


def _payments_caller(request: web.Request) -> str | None:
    return caller_of(request, errors.legacy_error(401, "unauthorized", "invalid access token"))


def _orders_caller(request: web.Request) -> str | None:
    return caller_of(request, errors.legacy_error(401, "invalid_token", "invalid access token"))


def _number_of(request: web.Request, name: str) -> int:
    text = request.match_info[name]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


async def get_merchant_order(request: web.Request) -> web.Response:
    """`GET /merchant_orders/{id}`."""
    world, caller = request.app[WORLD], _orders_caller(request)
    found = world.in_store.merchant_orders.get(_number_of(request, "merchant_order_id"))
    if found is None or caller not in {None, found.order.user_id}:
        raise Refused(errors.legacy_error(404, "not_found", "merchant order not found"))
    return errors.json_response(200, dump_json(merchant_order_view(found, world.config)))


def _visible(request: web.Request, caller: str | None) -> list[MerchantOrder]:
    """What a search may find by now: new ones appear with the lag the faults ask for."""
    world = request.app[WORLD]
    until = world.clock.now() - timedelta(seconds=world.faults.indexing_lag_seconds)
    everything = world.in_store.merchant_orders.values()
    return [one for one in everything if one.created_at <= until and caller in {None, one.order.user_id}]


async def search_orders(request: web.Request) -> web.Response:
    """`GET /merchant_orders/search`."""
    world, caller = request.app[WORLD], _orders_caller(request)
    views = [merchant_order_view(one, world.config) for one in _visible(request, caller)]
    try:
        found = search_merchant_orders(views, request.query, world.clock.now())
    except BadLegacySearch as bad:
        raise Refused(errors.legacy_error(400, "ds_search_query", str(bad))) from bad
    return errors.json_response(200, dump_json(found))


def _find_payment(request: web.Request, caller: str | None) -> tuple[Payment, MerchantOrder]:
    world, number = request.app[WORLD], _number_of(request, "payment_id")
    payment, merchant_order = world.in_store.payment(number), world.in_store.payments.get(number)
    if payment is None or merchant_order is None or caller not in {None, merchant_order.order.user_id}:
        raise Refused(errors.legacy_error(404, "not_found", "Payment not found", 2000))
    return payment, merchant_order


async def get_payment(request: web.Request) -> web.Response:
    """`GET /v1/payments/{id}`: of an order put on a point of sale, or of `/v1/orders` by its `reference_id`."""
    world, caller = request.app[WORLD], _payments_caller(request)
    found = find_order_payment(world.ledger, request.match_info["payment_id"])
    if found is not None and (caller is None or found[0].owner in {None, caller}):
        return errors.json_response(200, dump_json(order_payment_view(*found, world.config)))
    payment, merchant_order = _find_payment(request, caller)
    return errors.json_response(200, dump_json(payment_view(payment, merchant_order, request.app[WORLD].config)))


async def find_payments(request: web.Request) -> web.Response:
    """`GET /v1/payments/search`."""
    world, caller = request.app[WORLD], _payments_caller(request)
    until = world.clock.now() - timedelta(seconds=world.faults.indexing_lag_seconds)
    views = [
        payment_view(payment, merchant_order, world.config)
        for merchant_order in _visible(request, caller)
        for payment in merchant_order.payments
        if payment.created_at <= until
    ]
    try:
        found = search_payments(views, request.query, world.clock.now())
    except BadLegacySearch as bad:
        raise Refused(errors.legacy_error(400, "bad_request", str(bad))) from bad
    if world.rules.text_payment_ids:
        found["results"] = [view | {"id": str(view["id"])} for view in found["results"]]
    return errors.json_response(200, dump_json(found))


async def list_refunds(request: web.Request) -> web.Response:
    """`GET /v1/payments/{id}/refunds`."""
    payment, merchant_order = _find_payment(request, _payments_caller(request))
    return errors.json_response(200, dump_json([refund_view(one, merchant_order.order) for one in payment.refunds]))


async def create_refund(request: web.Request, body: Json) -> Answer:
    """`POST /v1/payments/{id}/refunds`: 201 with the refund; no amount means all that is left."""
    world = request.app[WORLD]
    payment, merchant_order = _find_payment(request, _payments_caller(request))
    try:
        amount = read_refund(body)
        _check_age(payment, request)
        made = counter.refund(world, payment, amount)
    except Invalid as invalid:
        raise Refused(errors.legacy_error(400, invalid.code, invalid.message, 1)) from invalid
    except NotPossible as refusal:
        raise Refused(errors.legacy_error(400, refusal.code, str(refusal), refusal.number)) from refusal
    return 201, dump_json(refund_view(made, merchant_order.order))


def _check_age(payment: Payment, request: web.Request) -> None:
    world = request.app[WORLD]
    days, now = world.rules.refund_window_days, world.clock.now()
    if days is not None and payment.approved_at is not None and now - payment.approved_at > timedelta(days=days):
        raise NotPossible("bad_request", "Payment too old to be refunded", 2024)
    refusal = world.faults.not_yet.refusal("refund", payment.key, payment.approved_at, now)
    if refusal is not None:
        raise Refused(errors.legacy_error(refusal[0], refusal[1], errors.message_of(*refusal)))


def _refuse(number: int) -> tuple[int, str, str]:
    messages = {
        4292: "Header X-Idempotency-Key can't be null",
        4295: "Header X-Idempotency-Key must have 1 to 128 characters",
        4296: "Header X-Idempotency-Key was already used with another request",
    }
    return 400, str(number), messages[number]


def _key_error(status: int, code: str, message: str) -> web.Response:
    return errors.legacy_error(status, "bad_request" if code.isdigit() else code, message, _cause(code))


def _cause(code: str) -> int | None:
    return int(code) if code.isdigit() else None


PAYMENTS = Wording(
    seller=_payments_caller,
    refuse=_key_error,
    missing=_refuse(4292),
    too_long=_refuse(4295),
    reused=_refuse(4296),
    in_use=(423, *errors.DEFAULT_ERRORS[423]),
    syntax=(400, "1", "Params Error: the body is not valid JSON"),
    no_object=(400, "1", "Params Error: the body must be an object"),
)


def routes() -> list[web.RouteDef]:
    """The routes about merchant orders and payments; `search` stands before the ids."""

    def read(path: str, operation: str, handler: Handler) -> web.RouteDef:
        return web.get(path, provider_route(operation, refusable(handler)), allow_head=False)

    refunds = "/v1/payments/{payment_id}/refunds"
    return [
        read("/merchant_orders/search", "merchant_order_search", search_orders),
        read("/merchant_orders/{merchant_order_id}", "merchant_order", get_merchant_order),
        read("/v1/payments/search", "payment_search", find_payments),
        read("/v1/payments/{payment_id}", "payment", get_payment),
        read(refunds, "payment_refunds", list_refunds),
        web.post(refunds, provider_route("payment_refund", idempotent(create_refund, PAYMENTS))),
    ]
