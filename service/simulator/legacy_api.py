"""The legacy attended QR's own routes: V1 `mpmobile` and V2 `instore` (legacy fact sheet, §1 and §2)."""

from typing import Any

from aiohttp import web

from . import counter, errors
from .in_store import StoreOrder
from .in_store_rules import read_v1, read_v2, v1_expiry, v2_expiry
from .in_store_shapes import v1_answer, v2_view
from .payloads import dump_json, load_json
from .provider import Handler, Refused, provider_route, refusable
from .schema import Invalid
from .world import WORLD

V1 = "/mpmobile/instore/qr/{user_id}/{external_pos_id}"
V2 = "/instore/qr/seller/collectors/{user_id}/pos/{external_pos_id}/orders"
V2_WITH_STORE = "/instore/qr/seller/collectors/{user_id}/stores/{external_store_id}/pos/{external_pos_id}/orders"


def caller_of(request: web.Request, refusal: web.Response) -> str | None:
    """The seller a token speaks for, from the header or (as in old samples) the query; `None`: everyone's.

    Raises `Refused` with `refusal` for none or an unknown one.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else request.query.get("access_token", "")
    tokens = request.app[WORLD].config.access_tokens
    if not token or (tokens and token not in tokens):
        raise Refused(refusal)
    return tokens[token] if tokens else None


def _place(request: web.Request) -> tuple[str, str]:
    """Seller and point of sale of the path. Raises `Refused`."""
    refusal = errors.in_store_error(400, "invalid_access_token", "invalid access token")
    caller, seller = caller_of(request, refusal), request.match_info["user_id"]
    v1 = request.path.startswith("/mpmobile/")
    if not seller.isdigit():
        code = "invalid_collector_id" if v1 else "invalid_collectorId"
        raise _refused(code, "the collector id must be a number")
    if caller is not None and caller != seller:
        code = "invalid_caller_id" if v1 else "invalid_collectorId"
        raise _refused(code, "Collector ID and Caller ID must be the same")
    pos, known = request.match_info["external_pos_id"], request.app[WORLD].rules.known_pos
    if known is not None and pos not in known:
        raise _refused("pos_obtainment_by_external_id_error", f"no point of sale has the external_id {pos}")
    return seller, pos


def _refused(code: str, message: str, status: int = 400) -> Refused:
    return Refused(errors.in_store_error(status, code, message))


async def _body(request: web.Request, code: str) -> Any:
    try:
        return load_json(await request.read())
    except ValueError:
        raise _refused(code, "the body is not valid JSON") from None


async def create_v1(request: web.Request) -> web.Response:
    """`POST /mpmobile/instore/qr/{user_id}/{external_id}`: 200."""
    world, (seller, pos) = request.app[WORLD], _place(request)
    body = await _body(request, "invalid_preference_body")
    try:
        total = read_v1(body)
        expires_at = v1_expiry(request.headers.get("X-Ttl-Store-Preference"), world.clock.now())
    except Invalid as invalid:
        raise _refused(invalid.code, invalid.message, invalid.status) from invalid
    order = counter.put(world, seller, pos, "v1", body, total, expires_at)
    return errors.json_response(200, dump_json(v1_answer(order, world.config)))


async def put_v1(request: web.Request) -> web.Response:
    """`PUT` on the V1 path: 405, as observed."""
    message = f"method {request.method} is not allowed"
    response = errors.in_store_error(405, "method_not_allowed", message)
    response.headers["Allow"] = "POST, DELETE"
    return response


async def create_v2(request: web.Request) -> web.Response:
    """`PUT /instore/qr/.../orders`: 204."""
    world, (seller, pos) = request.app[WORLD], _place(request)
    body = await _body(request, "invalid_items")
    try:
        total, expires_at = read_v2(body), v2_expiry(body, world.clock.now())
    except Invalid as invalid:
        raise _refused(invalid.code, invalid.message, invalid.status) from invalid
    counter.put(world, seller, pos, "v2", body, total, expires_at)
    return web.Response(status=204)


def _shown(request: web.Request, generation: str) -> StoreOrder | None:
    order = request.app[WORLD].in_store.shown(*_place(request))
    return order if order is not None and order.generation == generation else None


async def get_v2(request: web.Request) -> web.Response:
    """`GET /instore/qr/.../orders`: what the point of sale shows; V1 orders cannot be read."""
    order = _shown(request, "v2")
    if order is None:
        code = "point_of_sale_in_store_order_not_found"
        raise _refused(code, "the point of sale has no order", 404)
    view = v2_view(order)
    return errors.json_response(200, dump_json([view] if request.app[WORLD].rules.v2_get == "array" else view))


async def delete_v1(request: web.Request) -> web.Response:
    """`DELETE` on the V1 path: 204, also when there is nothing to delete."""
    _delete(request, _shown(request, "v1"))
    return web.Response(status=204)


async def delete_v2(request: web.Request) -> web.Response:
    """`DELETE` on a V2 path: 204, or 400 when there is nothing to delete."""
    order = _shown(request, "v2")
    if order is None:
        raise _refused("in_store_order_delete_error", "the point of sale has no order to delete")
    _delete(request, order)
    return web.Response(status=204)


def _delete(request: web.Request, order: StoreOrder | None) -> None:
    if order is not None:
        world = request.app[WORLD]
        counter.end(world, order, "deleted", world.clock.now())


def routes() -> list[web.RouteDef]:
    """The routes of both generations."""

    def served(operation: str, handler: Handler) -> Handler:
        return provider_route(operation, refusable(handler))

    made = [
        web.post(V1, served("legacy_create", create_v1)),
        web.put(V1, served("legacy_create", put_v1)),
        web.delete(V1, served("legacy_delete", delete_v1)),
        web.put(V2_WITH_STORE, served("legacy_create", create_v2)),
    ]
    for path in (V2, V2_WITH_STORE):
        made.append(web.get(path, served("legacy_get", get_v2), allow_head=False))
        made.append(web.delete(path, served("legacy_delete", delete_v2)))
    return made
