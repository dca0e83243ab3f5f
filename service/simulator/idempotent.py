"""Writes behind `X-Idempotency-Key`: what an absent, long, used or busy key is answered with, in either API's words."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from . import errors
from .idempotency import MAX_KEY_LENGTH, KeyInUse, KeyReused
from .money import Json
from .payloads import load_json
from .provider import LATENCY, Handler, Refused, refusable, seller_of
from .world import WORLD

Answer = tuple[int, bytes]
Write = Callable[[web.Request, Json], Awaitable[Answer]]
Refuse = Callable[[int, str, str], web.Response]


@dataclass(frozen=True, slots=True)
class Wording:
    """Who calls, and how the API words its refusals: status, code and message of each."""

    seller: Callable[[web.Request], str | None]
    refuse: Refuse
    missing: tuple[int, str, str]
    too_long: tuple[int, str, str]
    reused: tuple[int, str, str]
    in_use: tuple[int, str, str]
    syntax: tuple[int, str, str]
    no_object: tuple[int, str, str]


ORDERS = Wording(
    seller=seller_of,
    refuse=errors.error,
    missing=(400, "empty_required_header", "Missing HTTP header: X-Idempotency-Key"),
    too_long=(400, "invalid_idempotency_key_length", "X-Idempotency-Key must have 1 to 128 characters"),
    reused=(409, "idempotency_key_already_used", "the X-Idempotency-Key was already used with another request"),
    in_use=(423, *errors.DEFAULT_ERRORS[423]),
    syntax=(400, "json_syntax_error", "The request body is not valid JSON"),
    no_object=(400, "property_type", "The request body must be an object"),
)


def idempotent(write: Write, wording: Wording = ORDERS) -> Handler:
    """`write` behind its key: the first answer again, or a refusal for another request, or while the first one runs.

    The latency a fault adds is waited for here, after the effect and before the key is free: a client that gives up
    early and repeats finds its key in use.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        world = request.app[WORLD]
        seller = wording.seller(request) or world.config.user_id
        key = request.headers.get("X-Idempotency-Key", "")
        if not key:
            raise Refused(wording.refuse(*wording.missing))
        if len(key) > MAX_KEY_LENGTH:
            raise Refused(wording.refuse(*wording.too_long))
        body = await read_object(request, wording)
        fingerprint = request.path.encode() + b"\n" + json.dumps(body, sort_keys=True).encode()
        try:
            first = world.idempotency.begin(seller, key, fingerprint, world.clock.now())
        except KeyReused:
            raise Refused(wording.refuse(*wording.reused)) from None
        except KeyInUse:
            raise Refused(wording.refuse(*wording.in_use)) from None
        if first is not None:
            return errors.json_response(*first)
        status, answer = 500, b""
        try:
            try:
                status, answer = await write(request, body)
            finally:
                await asyncio.sleep(request.pop(LATENCY, 0.0))
        finally:
            world.idempotency.end(seller, key, status, answer)
        return errors.json_response(status, answer)

    return refusable(serve)


async def read_object(request: web.Request, wording: Wording) -> Json:
    """The request's JSON object; an empty body is an empty one. Raises `Refused`."""
    text = await request.read()
    if not text.strip():
        return {}
    try:
        body = load_json(text)
    except ValueError:
        raise Refused(wording.refuse(*wording.syntax)) from None
    if not isinstance(body, dict):
        raise Refused(wording.refuse(*wording.no_object))
    return body
