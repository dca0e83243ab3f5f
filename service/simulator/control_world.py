"""The control API's routes about everything but orders: faults, notifications, clock, logs, reset."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from .clock import format_time, parse_time
from .control import ControlError, answer, body_of, control_route, text_member, whole_number
from .lifecycle import event_of
from .money import Json
from .notices import (
    ORDER_AGENT,
    Notice,
    as_query,
    feed_notice,
    order_notice,
    panel_notice,
    unknown_order_notice,
    webhook_notice,
)
from .payloads import dump_json
from .signing import SIGN_VARIANTS
from .synonyms import CLOCK, by_main_names
from .world import WORLD, World

SENDING = ("kind", "sign", "secret", "wait", "retry")


async def set_faults(request: web.Request) -> web.Response:
    """`POST /_sim/faults`."""
    world = request.app[WORLD]
    world.faults.configure(await body_of(request))
    return answer(world.faults.describe())


async def get_faults(request: web.Request) -> web.Response:
    """`GET /_sim/faults`."""
    return answer(request.app[WORLD].faults.describe())


async def notify(request: web.Request) -> web.Response:
    """`POST /_sim/notify`."""
    world = request.app[WORLD]
    body = await body_of(request)
    kind = body.get("kind", "order")
    if kind not in NOTICES:
        raise ControlError(400, "bad_request", f"kind must be one of {', '.join(NOTICES)}")
    read, known = NOTICES[kind]
    unknown = body.keys() - {*known, *SENDING}
    if unknown:
        raise ControlError(400, "bad_request", f"unknown members for kind {kind}: {', '.join(sorted(unknown))}")
    sign = text_member(body, "sign")
    if sign is not None and sign not in SIGN_VARIANTS:
        raise ControlError(400, "bad_request", f"sign must be one of {', '.join(SIGN_VARIANTS)}")
    notice = _signed(read(world, body), sign, text_member(body, "secret"))
    delivery, task = world.notifier.send(notice, retry=body.get("retry") is True)
    if body.get("wait") is not True:
        return answer({"notification": delivery.number}, 202)
    if task is not None:
        await task
    return answer({"notification": delivery.number, "outcome": delivery.outcome, "status": delivery.status})


def _signed(notice: Notice, sign: str | None, secret: str | None) -> Notice:
    return replace(notice, sign=sign or notice.sign, secret=secret or notice.secret)


def _needed(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value:
        raise ControlError(400, "bad_request", f"{name} is needed, as a text")
    return value


def _order_notice(world: World, body: Json) -> Notice:
    order_id = _needed(body, "order_id")
    action, body_id = text_member(body, "action"), text_member(body, "body_id")
    order = world.ledger.orders.get(order_id)
    if order is None:
        config = world.config
        return unknown_order_notice(
            order_id, action or "order.processed", config.user_id, config.application_id, body_id
        )
    version = body.get("version")
    if version is not None and type(version) is not int:
        raise ControlError(400, "bad_request", "version must be a whole number")
    usual = action or event_of(order.body) or f"order.{order.status}"
    return order_notice(order, usual, world.draws, body_id=body_id, version=version)


def _feed_notice(_world: World, body: Json) -> Notice:
    return feed_notice(_needed(body, "topic"), _needed(body, "id"))


def _panel_notice(world: World, body: Json) -> Notice:
    return panel_notice(_needed(body, "id", "123456"), world.config.user_id, world.config.application_id)


def _webhook_notice(world: World, body: Json) -> Notice:
    number = 10**11 + world.draws.below(10**11, "webhook-id", body.get("topic"), body.get("id"))
    at = world.clock.now()
    return webhook_notice(
        _needed(body, "topic"),
        _needed(body, "action"),
        _needed(body, "id"),
        world.config.user_id,
        number,
        format_time(at)[:-5] + "Z",
    )


def _raw_notice(_world: World, body: Json) -> Notice:
    query, headers = body.get("query", {}), body.get("headers", {})
    if not isinstance(query, dict) or not isinstance(headers, dict):
        raise ControlError(400, "bad_request", "query and headers must be objects")
    text = text_member(body, "text")
    raw = text.encode() if text is not None else dump_json(body["body"]) if "body" in body else b""
    return Notice(
        topic=str(query.get("type") or query.get("topic") or "raw"),
        query=as_query(query),
        body=raw,
        user_agent=ORDER_AGENT,
        data_id=text_member(body, "data_id") or query.get("data.id"),
        headers={str(name): str(value) for name, value in headers.items()},
    )


NOTICES: Mapping[str, tuple[Callable[[World, Json], Notice], tuple[str, ...]]] = {
    "order": (_order_notice, ("order_id", "action", "body_id", "version")),
    "feed": (_feed_notice, ("topic", "id")),
    "panel": (_panel_notice, ("id",)),
    "webhook": (_webhook_notice, ("topic", "action", "id")),
    "raw": (_raw_notice, ("query", "body", "text", "headers", "data_id")),
}


async def list_notifications(request: web.Request) -> web.Response:
    """`GET /_sim/notifications`."""
    log = request.app[WORLD].notifier.log
    wanted = request.query.get("order_id")
    entries = [entry for entry in log.entries if wanted is None or entry["order_id"] == wanted]
    return answer({"data": _latest(request, entries), "total": log.total})


async def list_requests(request: web.Request) -> web.Response:
    """`GET /_sim/requests`."""
    log = request.app[WORLD].requests
    wanted = request.query.get("operation")
    entries = [entry for entry in log.entries if wanted is None or entry["operation"] == wanted]
    return answer({"data": _latest(request, entries), "total": log.total, "counts": log.counts})


def _latest(request: web.Request, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    limit = whole_number(request, "limit", len(entries))
    return entries[len(entries) - min(limit, len(entries)) :]


async def set_webhook(request: web.Request) -> web.Response:
    """`POST /_sim/webhook`. The secret is not told again."""
    notifier = request.app[WORLD].notifier
    body = await body_of(request, "url", "secret")
    if "url" in body:
        notifier.url = text_member(body, "url") or None
    if "secret" in body:
        notifier.secret = text_member(body, "secret") or None
    return answer({"url": notifier.url, "signed": notifier.secret is not None})


async def idle(request: web.Request) -> web.Response:
    """`GET /_sim/idle` and `POST /_sim/settle`."""
    notifier = request.app[WORLD].notifier
    text = request.query.get("timeout_seconds", "10")
    try:
        timeout_seconds = float(text)
    except ValueError:
        raise ControlError(400, "bad_request", f"timeout_seconds must be a number, not {text!r}") from None
    ignore = request.query.get("ignore_retries", "0") in {"1", "true"}
    done = await notifier.wait_idle(timeout_seconds, ignore)
    states = {state: notifier.log.states[state] for state in ("queued", "running", "retrying")}
    return answer({"idle": done, **states}, 200 if done else 504)


async def set_clock(request: web.Request) -> web.Response:
    """`POST /_sim/clock`. Expiries that become due happen before the answer."""
    world = request.app[WORLD]
    body = by_main_names(await body_of(request, "advance_seconds", "set", "speed", *CLOCK), CLOCK)
    for name in ("advance_seconds", "speed"):
        value = body.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ControlError(400, "bad_request", f"{name} must be a number")
    if body.get("speed", 0) < 0:
        raise ControlError(400, "bad_request", "speed must be 0 (frozen) or more")
    if "set" in body:
        world.clock.set(parse_time(text_member(body, "set") or ""))
    if "speed" in body:
        world.clock.set_speed(float(body["speed"]))
    try:
        world.clock.advance(body.get("advance_seconds", 0))
    except OverflowError as error:
        raise ControlError(400, "bad_request", "advance_seconds leads out of the calendar") from error
    world.expire_due()
    return answer(world.clock_state())


async def get_clock(request: web.Request) -> web.Response:
    """`GET /_sim/clock`."""
    return answer(request.app[WORLD].clock_state())


async def reset(request: web.Request) -> web.Response:
    """`POST /_sim/reset`."""
    world = request.app[WORLD]
    body = await body_of(request, "seed")
    seed = body.get("seed")
    if seed is not None and type(seed) is not int:
        raise ControlError(400, "bad_request", "seed must be a whole number")
    await world.reset(seed)
    return answer({"seed": world.draws.seed})


def routes() -> list[web.RouteDef]:
    """The control routes about everything but orders."""
    return [
        web.post("/_sim/faults", control_route(set_faults)),
        web.get("/_sim/faults", control_route(get_faults)),
        web.post("/_sim/notify", control_route(notify)),
        web.get("/_sim/notifications", control_route(list_notifications)),
        web.get("/_sim/requests", control_route(list_requests)),
        web.post("/_sim/webhook", control_route(set_webhook)),
        web.get("/_sim/idle", control_route(idle)),
        web.post("/_sim/settle", control_route(idle)),
        web.post("/_sim/clock", control_route(set_clock)),
        web.get("/_sim/clock", control_route(get_clock)),
        web.post("/_sim/reset", control_route(reset)),
    ]
