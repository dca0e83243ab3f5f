"""The provider's API routes that change orders: create, cancel, refund (orders fact sheet, §1.1, §2, §7)."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta

from aiohttp import web

from . import errors, lifecycle
from .create_rules import check_create
from .idempotent import Answer, idempotent
from .ledger import SimulatedOrder
from .money import SITES, Json
from .payloads import dump_json, payments_of
from .places import place_of
from .provider import Refused, find_order, provider_route, seller_of
from .refund_rules import check_refund, read_refunds
from .schema import Invalid
from .spec import OrderSpec, read_spec
from .world import WORLD, World

KEPT_MEMBERS = ("marketplace_fee", "integration_data", "config", "items", "discounts", "taxes", "capture_mode")
NAMED_BUYERS: dict[str, tuple[str, str | None]] = {
    "APRO": ("processed", None),
    "CONT": ("processing", "in_process"),
    "OTHE": ("failed", "rejected_by_issuer"),  # codespell:ignore - the provider's own word
    "CALL": ("failed", "required_call_for_authorize"),
    "FUND": ("failed", "insufficient_amount"),
    "SECU": ("failed", "bad_filled_card_data"),
    "EXPI": ("failed", "bad_filled_card_data"),
    "FORM": ("failed", "bad_filled_card_data"),
    "LOCK": ("failed", "card_disabled"),
    "INST": ("failed", "invalid_installments"),
    "BLAC": ("failed", "high_risk"),
}
"""What a card of a buyer with such a first name does (legacy fact sheet, §8): order status, detail of the payment."""


def _refused(status: int, code: str, message: str, details: Sequence[str] = ()) -> Refused:
    return Refused(errors.error(status, code, message, details))


async def create_order(request: web.Request, body: Json) -> Answer:
    """`POST /v1/orders`: 201 with the order, 402 with it in `data` when the card was declined.

    Online orders go on at once: a transfer waits, a card is accredited, reviewed or declined.
    """
    world = request.app[WORLD]
    try:
        check_create(body, SITES[world.config.site])
    except Invalid as invalid:
        raise _refused(invalid.status, invalid.code, invalid.message, invalid.details) from invalid
    seller = seller_of(request)
    _check_place(world, body, seller or world.config.user_id)
    spec = _spec_of(world, body, seller)
    try:
        order, event = world.ledger.create(spec, world.clock.now())
    except ValueError as error:
        raise _refused(400, "property_value", "Invalid value", [str(error)]) from error
    world.happened(order, event)
    world.took_place(order)
    if spec.status == "action_required" and _first_name(body) == "APRO":
        _set_transfer(world, order)
    return (402, _declined(order)) if order.status == "failed" else (201, order.rendered)


def _check_place(world: World, body: Json, seller: str) -> None:
    """Whether the point of sale or terminal is there, and free."""
    rules, place = world.rules, place_of({**body, "user_id": seller})
    if place is None:
        return
    kind, _, name = place
    if kind == "pos" and rules.known_pos is not None and name not in rules.known_pos:
        raise _refused(404, "pos_not_found", f"There is no point of sale with external_id {name}.")
    if kind == "terminal" and rules.known_terminals is not None and name not in rules.known_terminals:
        raise _refused(403, "forbidden_checking_terminal_owner", "The terminal does not belong to the caller.")
    if kind == "terminal" and any(order.status in QUEUED for order in world.ledger.open_at(place)):
        raise _refused(409, rules.queued_code, "There is already a queued order on the terminal.")


QUEUED = frozenset({"created", "at_terminal"})


def _spec_of(world: World, body: Json, seller: str | None) -> OrderSpec:
    """A create request that was found valid as a spec."""
    payment = body["transactions"]["payments"][0]
    known = {item.name for item in fields(OrderSpec)} - {"discounts", "overrides", "status", "id"}
    values = {name: body[name] for name in known & body.keys()}
    values.setdefault("total_amount", payment["amount"])
    if seller is not None:
        values["user_id"] = seller
    if body["type"] == "online":
        method = payment.get("payment_method") or {}
        values["payment_method"] = {name: item for name, item in method.items() if name != "token"}
        if method.get("type") == "bank_transfer":
            values["status"] = "action_required"
        else:
            usual = ("failed", world.rules.decline) if world.rules.decline else ("processed", None)
            status, detail = NAMED_BUYERS.get(_first_name(body), usual)
            values["status"], values["payment_detail"] = status, detail
        if "expiration_time" in payment:
            values["expiration_time"] = payment["expiration_time"]
    elif body["type"] == "qr":
        values["mode"] = body["config"]["qr"].get("mode", "static")
    values["overrides"] = {name: body[name] for name in KEPT_MEMBERS if name in body}
    try:
        return read_spec(values)
    except ValueError as error:
        raise _refused(400, "property_value", "Invalid value", [str(error)]) from error


def _first_name(body: Json) -> str:
    payer = body.get("payer")
    return str(payer.get("first_name", "")) if isinstance(payer, dict) else ""


def _declined(order: SimulatedOrder) -> bytes:
    details = [f"{payment['id']}: {payment['status_detail']}" for payment in payments_of(order.body)]
    told = errors.envelope("failed", "The following transactions failed", details)
    return dump_json(told)[:-1] + b',"data":' + order.rendered + b"}"


def _set_transfer(world: World, order: SimulatedOrder) -> None:
    """The transfer of a test buyer named APRO arrives by itself, as observed."""
    if world.rules.transfer_pays_seconds is None:
        return

    def arrive(at: datetime) -> None:
        if order.status == "action_required":
            world.change(order, lifecycle.pay, at=at)

    world.agenda.put(world.clock.now() + timedelta(seconds=world.rules.transfer_pays_seconds), arrive)


async def cancel_order(request: web.Request, _body: Json) -> Answer:
    """`POST /v1/orders/{order_id}/cancel`: 200 with the whole order."""
    world, order = request.app[WORLD], find_order(request)
    if order.status == "canceled":
        raise _refused(409, "order_already_canceled", "The order is already canceled.")
    allowed = {name.strip() for name in request.headers.get("x-allow-cancelable-status", "").split(",")}
    if order.status == "at_terminal" and "at_terminal" in allowed:
        if order.body.get("status_detail") != "cancellation_requested":
            world.change(order, _request_cancellation)
            _set_release(world, order)
        return 200, order.rendered
    cancelable = {"created", "action_required"} if order.body.get("type") == "online" else {"created"}
    if order.status not in cancelable:
        message = f"current status '{order.status}' does not allow cancellation"
        raise _refused(409, "cannot_cancel_order", message)
    _check_time(world, "cancel", order)
    world.change(order, lambda body, _: lifecycle.cancel(body))
    return 200, order.rendered


def _request_cancellation(body: Json, _chance: lifecycle.Chance) -> str | None:
    """The terminal is asked to let go; only its later answer is final."""
    for record in (body, *payments_of(body)):
        record["status_detail"] = "cancellation_requested"
    return None


def _set_release(world: World, order: SimulatedOrder) -> None:
    """The terminal lets go of the order some time later, unless the buyer was faster."""
    if world.rules.terminal_cancel_seconds is None:
        return

    def let_go(at: datetime) -> None:
        if order.body.get("status_detail") == "cancellation_requested":
            world.change(order, lambda body, _: lifecycle.cancel(body, status_detail="canceled_by_api"), at=at)

    world.agenda.put(world.clock.now() + timedelta(seconds=world.rules.terminal_cancel_seconds), let_go)


def _check_time(world: World, operation: str, order: SimulatedOrder) -> None:
    """Refuse what comes too soon after the creation (cancel) or payment (refund), where the faults say so."""
    since = order.created_at if operation == "cancel" else order.paid_at
    refusal = world.faults.not_yet.refusal(operation, order.key, since, world.clock.now())
    if refusal is not None:
        raise _refused(refusal[0], refusal[1], errors.message_of(*refusal))


async def refund_order(request: web.Request, body: Json) -> Answer:
    """`POST /v1/orders/{order_id}/refund`: 201 with `id, status, status_detail` and the new refunds only."""
    world, order = request.app[WORLD], find_order(request)
    rules = world.rules
    status = "processed" if rules.refund_processing_seconds is None else "processing"
    new: list[Json] = []

    def give_back(order_body: Json, chance: lifecycle.Chance) -> str | None:
        for payment_id, amount in wanted:
            new.extend(lifecycle.refund(order_body, chance, payment_id=payment_id, amount=amount, status=status))
        return lifecycle.event_of(order_body) if status == "processed" else None

    try:
        wanted = read_refunds(body)
        check_refund(order.body, wanted, order.paid_at, world.clock.now(), rules.refund_window_days)
        _check_time(world, "refund", order)
        world.change(order, give_back)
    except Invalid as invalid:
        raise _refused(invalid.status, invalid.code, invalid.message, invalid.details) from invalid
    except lifecycle.Forbidden as forbidden:
        code = {"refund_amount_exceeds": 400, "transaction_not_found": 404}.get(forbidden.code, 409)
        raise _refused(code, forbidden.code, str(forbidden)) from forbidden
    if status == "processing":
        _set_end(world, order, [str(refund["id"]) for refund in new])
    answer = {"id": order.order_id, "status": order.view["status"], "status_detail": order.view["status_detail"]}
    return 201, dump_json(answer | {"transactions": {"refunds": new}})


def _set_end(world: World, order: SimulatedOrder, refund_ids: list[str]) -> None:
    """Refunds in processing end some time later, unless the control API was faster."""
    ends = world.rules.refund_ends

    def end(at: datetime) -> None:
        for refund_id in refund_ids:
            if lifecycle.is_processing(order.body, refund_id):
                world.change(order, lifecycle.ending(refund_id, ends), at=at)

    world.agenda.put(world.clock.now() + timedelta(seconds=world.rules.refund_processing_seconds or 0), end)


def routes() -> list[web.RouteDef]:
    """The routes that change orders."""
    order = "/v1/orders/{order_id}"
    return [
        web.post("/v1/orders", provider_route("create", idempotent(create_order))),
        web.post(f"{order}/cancel", provider_route("cancel", idempotent(cancel_order))),
        web.post(f"{order}/refund", provider_route("refund", idempotent(refund_order))),
    ]
