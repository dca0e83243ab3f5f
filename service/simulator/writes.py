"""The provider's API routes that change orders: create, cancel, refund (orders fact sheet, §1.1, §2, §7)."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

from aiohttp import web

from . import errors, lifecycle
from .idempotency import MAX_KEY_LENGTH, KeyInUse, KeyReused
from .ledger import SimulatedOrder
from .money import Json, amount_text, decimal_of, total
from .payloads import dump_json, payments_of
from .provider import Handler, Refused, find_order, provider_route, refusable, seller_of
from .spec import OrderSpec, read_spec
from .world import WORLD

ROOT_MEMBERS = frozenset(
    {
        "type",
        "total_amount",
        "description",
        "external_reference",
        "expiration_time",
        "marketplace_fee",
        "integration_data",
        "config",
        "transactions",
        "items",
        "discounts",
        "taxes",
        "processing_mode",
        "capture_mode",
        "payer",
        "currency",
    }
)
KEPT_MEMBERS = ("marketplace_fee", "integration_data", "config", "items", "discounts", "taxes", "capture_mode")
Answer = tuple[int, bytes]
Write = Callable[[web.Request, Json], Awaitable[Answer]]


def idempotent(write: Write) -> Handler:
    """`write` behind its key: 400 without one, the first answer again, 409 for another request, 423 meanwhile."""

    async def serve(request: web.Request) -> web.StreamResponse:
        world = request.app[WORLD]
        seller = seller_of(request) or world.config.user_id
        key = request.headers.get("X-Idempotency-Key", "")
        if not key:
            raise _refused(400, "empty_required_header", "Missing HTTP header: X-Idempotency-Key")
        if len(key) > MAX_KEY_LENGTH:
            raise _refused(400, "invalid_idempotency_key_length", "X-Idempotency-Key must have 1 to 128 characters")
        text = await request.read()
        body = _json_object(text)
        fingerprint = request.path.encode() + b"\n" + json.dumps(body, sort_keys=True).encode()
        try:
            first = world.idempotency.begin(seller, key, fingerprint, world.clock.now())
        except KeyReused:
            message = "the X-Idempotency-Key was already used with another request"
            raise _refused(409, "idempotency_key_already_used", message) from None
        except KeyInUse:
            raise Refused(errors.default_error(423)) from None
        if first is not None:
            return errors.json_response(*first)
        status = 500
        answer = b""
        try:
            status, answer = await write(request, body)
        finally:
            world.idempotency.end(seller, key, status, answer)
        return errors.json_response(status, answer)

    return refusable(serve)


def _json_object(text: bytes) -> Json:
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
    except ValueError:
        raise _refused(400, "json_syntax_error", "The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise _refused(400, "property_type", "The request body must be an object")
    return body


def _refused(status: int, code: str, message: str, *details: str) -> Refused:
    return Refused(errors.error(status, code, message, details))


async def create_order(request: web.Request, body: Json) -> Answer:
    """`POST /v1/orders`: 201 with the order. Online orders go on at once: a transfer waits, a card is accredited."""
    world = request.app[WORLD]
    spec = _spec_of(body, seller_of(request))
    try:
        order, event = world.ledger.create(spec, world.clock.now())
    except ValueError as error:
        raise _refused(400, "property_value", "Invalid value", str(error)) from error
    world.happened(order, event)
    return 201, order.rendered


def _spec_of(body: Json, seller: str | None) -> OrderSpec:
    """The documented create request as a spec. Raises `Refused` where the API would."""
    _check_members(body)
    payments = _check_payments(body)
    known = {item.name for item in fields(OrderSpec)} - {"discounts", "overrides", "status", "id"}
    values = {name: body[name] for name in known & body.keys()}
    values.setdefault("total_amount", payments[0]["amount"])
    if seller is not None:
        values["user_id"] = seller
    if body["type"] == "online":
        method = payments[0].get("payment_method") or {}
        values["payment_method"] = {name: item for name, item in method.items() if name != "token"}
        values["status"] = "action_required" if method.get("type") == "bank_transfer" else "processed"
        if "expiration_time" in payments[0]:
            values["expiration_time"] = payments[0]["expiration_time"]
    elif body["type"] == "qr":
        values["mode"] = body["config"]["qr"].get("mode", "static")
    values["overrides"] = {name: body[name] for name in KEPT_MEMBERS if name in body}
    try:
        return read_spec(values)
    except ValueError as error:
        raise _refused(400, "property_value", "Invalid value", str(error)) from error


def _check_members(body: Json) -> None:
    unknown = sorted(body.keys() - ROOT_MEMBERS)
    if unknown:
        details = [f"additionalProperties '$.{name}' not allowed" for name in unknown]
        raise _refused(400, "unsupported_properties", "Unsupported properties", *details)
    kind = body.get("type")
    needed = ["type", "transactions"] + ([] if kind == "online" else ["external_reference", "config"])
    missing = [f"missing properties: '$.{name}'" for name in needed if not body.get(name)]
    place = {"qr": ("qr", "external_pos_id"), "point": ("point", "terminal_id")}.get(str(kind))
    if not missing and place is not None:
        group = body["config"].get(place[0]) if isinstance(body["config"], dict) else None
        if not isinstance(group, dict) or not group.get(place[1]):
            missing = [f"missing properties: '$.config.{place[0]}.{place[1]}'"]
    if missing:
        raise _refused(400, "required_properties", "Missing properties", *missing)
    if kind not in {"qr", "point", "online"}:
        raise _refused(400, "invalid_order_type", "Invalid order type")


def _check_payments(body: Json) -> list[Json]:
    payments = payments_of(body)
    if len(payments) != 1:
        code = "minimum_items" if not payments else "maximum_items"
        raise _refused(400, code, "Invalid number of items", "$.transactions.payments must have exactly 1 item")
    try:
        amount_text(payments[0].get("amount"))
        amount_text(body.get("total_amount", "0"))
    except ValueError as error:
        raise _refused(400, "invalid_transaction_amount", "Invalid amount", str(error)) from error
    if "total_amount" in body and decimal_of(body["total_amount"]) != total(p.get("amount") for p in payments):
        raise _refused(400, "invalid_total_amount", "total_amount must equal the sum of the payments")
    return payments


async def cancel_order(request: web.Request, _body: Json) -> Answer:
    """`POST /v1/orders/{order_id}/cancel`: 200 with the whole order."""
    world, order = request.app[WORLD], find_order(request)
    if order.status == "canceled":
        raise _refused(409, "order_already_canceled", "The order is already canceled.")
    if order.status == "at_terminal" and "at_terminal" in request.headers.get("x-allow-cancelable-status", ""):
        world.change(order, _request_cancellation)
        return 200, order.rendered
    cancelable = {"created", "action_required"} if order.body.get("type") == "online" else {"created"}
    if order.status not in cancelable:
        message = f"current status '{order.status}' does not allow cancellation"
        raise _refused(409, "cannot_cancel_order", message)
    world.change(order, lambda body, _: lifecycle.cancel(body))
    return 200, order.rendered


def _request_cancellation(body: Json, _chance: lifecycle.Chance) -> str | None:
    """The terminal is asked to let go; only its later answer is final."""
    for record in (body, *payments_of(body)):
        record["status_detail"] = "cancellation_requested"
    return None


async def refund_order(request: web.Request, body: Json) -> Answer:
    """`POST /v1/orders/{order_id}/refund`: 201 with `id, status, status_detail` and the new refunds only."""
    world, order = request.app[WORLD], find_order(request)
    if order.status == "refunded":
        raise _refused(409, "order_already_refunded", "The order is already refunded.")
    wanted = _refunds_wanted(body)
    new: list[Json] = []

    def give_back(order_body: Json, chance: lifecycle.Chance) -> str | None:
        for payment_id, amount in wanted:
            new.extend(lifecycle.refund(order_body, chance, payment_id=payment_id, amount=amount))
        return lifecycle.event_of(order_body)

    try:
        world.change(order, give_back)
    except lifecycle.Forbidden as forbidden:
        raise _refund_refused(order, forbidden) from forbidden
    answer = {"id": order.order_id, "status": order.view["status"], "status_detail": order.view["status_detail"]}
    return 201, dump_json(answer | {"transactions": {"refunds": new}})


def _refund_refused(order: SimulatedOrder, forbidden: lifecycle.Forbidden) -> Refused:
    if forbidden.code == "cannot_refund_order":
        message = f"current status '{order.status}' does not allow refunds; the order must be 'processed'"
        return _refused(409, forbidden.code, message)
    status = {"refund_amount_exceeds": 400, "transaction_not_found": 404}.get(forbidden.code, 409)
    return _refused(status, forbidden.code, str(forbidden))


def _refunds_wanted(body: Json) -> list[tuple[str | None, str | None]]:
    """Payment id and amount of every wanted refund; one pair of nothing for the whole rest."""
    transactions = body.get("transactions")
    if transactions is None:
        if body:
            details = [f"additionalProperties '$.{name}' not allowed" for name in sorted(body)]
            raise _refused(400, "unsupported_properties", "Unsupported properties", *details)
        return [(None, None)]
    if not isinstance(transactions, list) or not transactions:
        raise _refused(400, "minimum_items", "Invalid number of items", "$.transactions must have at least 1 item")
    return [_refund_wanted(item) for item in transactions]


def _refund_wanted(item: Any) -> tuple[str, str | None]:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise _refused(400, "required_properties", "Missing properties", "missing properties: '$.transactions[].id'")
    if item.get("amount") is None:
        return item["id"], None
    try:
        return item["id"], amount_text(item["amount"])
    except ValueError as error:
        raise _refused(400, "property_value", "Invalid value", str(error)) from error


def routes() -> list[web.RouteDef]:
    """The routes that change orders."""
    order = "/v1/orders/{order_id}"
    return [
        web.post("/v1/orders", provider_route("create", idempotent(create_order))),
        web.post(f"{order}/cancel", provider_route("cancel", idempotent(cancel_order))),
        web.post(f"{order}/refund", provider_route("refund", idempotent(refund_order))),
    ]
