"""The control API's routes about the legacy attended QR, points of sale and rules. Bodies: docs/simulator.md."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from . import counter
from .control import ControlError, Handler, answer, body_of, control_route, text_member
from .in_store import MerchantOrder, NotPossible, Payment, StoreOrder
from .in_store_shapes import merchant_order_view, number, offset_time, payment_view
from .money import Json, amount_text
from .rules import usual_rules
from .world import WORLD, World

CHOOSING = ("user_id", "external_reference", "merchant_order_id", "late", "notify")
Act = Callable[[World, StoreOrder, Json], None]


def _chosen(world: World, external_pos_id: str, body: Json) -> StoreOrder:
    """The order the buyer has before them: the newest of that point of sale, unless another one is named."""
    reference, wanted_id = text_member(body, "external_reference"), body.get("merchant_order_id")
    found = [
        order
        for order in world.in_store.at(external_pos_id, text_member(body, "user_id"))
        if reference in {None, order.external_reference}
        and (wanted_id is None or (order.merchant_order and order.merchant_order.merchant_order_id == wanted_id))
    ]
    if not found:
        raise ControlError(404, "order_not_found", f"no such legacy order was put at {external_pos_id}")
    return found[-1]


def _flag(body: Json, name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise ControlError(400, "bad_request", f"{name} must be true or false")
    return value


def _scanned(world: World, order: StoreOrder, body: Json) -> MerchantOrder:
    return counter.scan(world, order, late=_flag(body, "late", False), notify=_flag(body, "notify", True))


def _scan(world: World, order: StoreOrder, body: Json) -> None:
    _scanned(world, order, body)


def _amount(body: Json) -> Decimal | None:
    return None if body.get("amount") is None else Decimal(amount_text(body["amount"]))


def _try(status: str, usual_detail: str) -> Act:
    def act(world: World, order: StoreOrder, body: Json) -> None:
        method = body.get("payment_method")
        if method is not None and not (isinstance(method, dict) and {"id", "type"} <= method.keys()):
            raise ControlError(400, "bad_request", "payment_method must be an object with id and type")
        amount, detail = _amount(body), text_member(body, "status_detail") or usual_detail
        counter.pay(
            world,
            _scanned(world, order, body),
            status,
            detail,
            amount=amount,
            method=method,
            notify=_flag(body, "notify", True),
        )

    return act


def _payment(order: StoreOrder, body: Json) -> Payment:
    payments = order.merchant_order.payments if order.merchant_order is not None else []
    wanted = body.get("payment_id")
    found = [payment for payment in payments if wanted in {None, payment.payment_id}]
    if not found:
        raise ControlError(404, "payment_not_found", "the order has no such payment")
    return found[-1]


def _settle(status: str, usual_detail: str) -> Act:
    def act(world: World, order: StoreOrder, body: Json) -> None:
        detail = text_member(body, "status_detail") or usual_detail
        counter.settle(world, _payment(order, body), status, detail, notify=_flag(body, "notify", True))

    return act


def _refund(world: World, order: StoreOrder, body: Json) -> None:
    counter.refund(world, _payment(order, body), _amount(body), notify=_flag(body, "notify", True))


def _expire(world: World, order: StoreOrder, _body: Json) -> None:
    counter.end(world, order, "expired", world.clock.now())


PAYING = ("amount", "status_detail", "payment_method")
ACTS: dict[str, tuple[Act, tuple[str, ...]]] = {
    "scan": (_scan, ()),
    "pay": (_try("approved", "accredited"), PAYING),
    "reject": (_try("rejected", "cc_rejected_insufficient_amount"), PAYING),
    "pending": (_try("in_process", "pending_contingency"), PAYING),
    "approve": (_settle("approved", "accredited"), ("payment_id", "status_detail")),
    "decline": (_settle("rejected", "cc_rejected_other_reason"), ("payment_id", "status_detail")),
    "chargeback": (_settle("charged_back", "in_process"), ("payment_id", "status_detail")),
    "refund": (_refund, ("payment_id", "amount")),
    "expire": (_expire, ()),
}


def _told(world: World, order: StoreOrder) -> Json:
    """The truth about one legacy order: what no API call would tell, and what the calls would."""
    merchant_order = order.merchant_order
    payments = [] if merchant_order is None else merchant_order.payments
    return {
        "user_id": order.user_id,
        "external_pos_id": order.external_pos_id,
        "generation": order.generation,
        "state": order.state,
        "external_reference": order.external_reference,
        "total_amount": number(order.total),
        "created_at": offset_time(order.created_at),
        "expires_at": offset_time(order.expires_at),
        "merchant_order": None if merchant_order is None else merchant_order_view(merchant_order, world.config),
        "payments": [payment_view(one, order.merchant_order, world.config) for one in payments if order.merchant_order],
    }


def _acting(act: Act, known: tuple[str, ...]) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        world = request.app[WORLD]
        body = await body_of(request, *CHOOSING, *known)
        order = _chosen(world, request.match_info["external_pos_id"], body)
        try:
            act(world, order, body)
        except NotPossible as refusal:
            raise ControlError(409, refusal.code, str(refusal)) from refusal
        return answer(_told(world, order))

    return serve


async def list_legacy(request: web.Request) -> web.Response:
    """`GET /_sim/legacy`: every legacy order, oldest first."""
    world = request.app[WORLD]
    return answer({"data": [_told(world, order) for order in world.in_store.orders]})


async def list_places(request: web.Request) -> web.Response:
    """`GET /_sim/places`: what every printed QR and terminal shows, and what else waits there."""
    world = request.app[WORLD]
    told: dict[tuple[str, str, str], dict[str, Any]] = {}
    for place, orders in world.ledger.places().items():
        newest = world.ledger.shown_at(place)
        shows = None if newest is None else {"order_id": newest.order_id}
        told[place] = {"shows": shows, "open": [order.order_id for order in orders]}
    for shown in world.in_store.shown_everywhere():
        entry = told.setdefault(("pos", shown.user_id, shown.external_pos_id), {"open": []})
        entry["shows"] = {"legacy": shown.generation, "external_reference": shown.external_reference}
    names = ("kind", "user_id", "name")
    return answer({"data": [dict(zip(names, place, strict=True)) | entry for place, entry in sorted(told.items())]})


async def set_rules(request: web.Request) -> web.Response:
    """`POST /_sim/rules`; an empty body puts the usual ones back."""
    world, body = request.app[WORLD], await body_of(request)
    world.rules = world.rules.changed(body) if body else usual_rules(world.config)
    return answer(world.rules.described())


async def get_rules(request: web.Request) -> web.Response:
    """`GET /_sim/rules`."""
    return answer(request.app[WORLD].rules.described())


def routes() -> list[web.RouteDef]:
    """The control routes about the legacy attended QR, points of sale and rules."""
    at = "/_sim/legacy/{external_pos_id}"
    return [
        web.get("/_sim/legacy", control_route(list_legacy)),
        *(web.post(f"{at}/{name}", control_route(_acting(act, known))) for name, (act, known) in ACTS.items()),
        web.get("/_sim/places", control_route(list_places)),
        web.post("/_sim/rules", control_route(set_rules)),
        web.get("/_sim/rules", control_route(get_rules)),
    ]
