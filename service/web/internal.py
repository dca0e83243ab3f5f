"""The internal application: health, metrics, and the API that dashboards, gateways and operators build on."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from aiohttp import web

from service.accounts import AccountBook
from service.database.pool import Database
from service.web.api import OPERATIONS
from service.web.docs import CONTENT_SECURITY_POLICY, render_page
from service.web.errors import MAX_BODY_BYTES, envelope, json_response
from service.web.health import Health
from service.web.keys import KeyRing, authenticate
from service.web.middleware import count_requests
from service.web.openapi import build_document, document_text
from service.web.operations import Operation
from service.web.parameters import NoParameters
from service.web.state import STATE, InternalState, MarkDue

if TYPE_CHECKING:
    from service.desk.desk import Desk

_OPEN_ROUTES = frozenset(operation.path for operation in OPERATIONS if operation.scope is None)


def create_internal_app(
    *,
    read_db: Database,
    mark_due: MarkDue,
    health: Health,
    accounts: Callable[[], AccountBook],
    keys: Callable[[], KeyRing],
    desk: "Desk | None" = None,
) -> web.Application:
    """The application of the internal port.

    `accounts` and `keys` are asked at every request, so a reloaded file counts at once (`follow_keys` in
    `service.web.keys` makes the second one). `mark_due(order_id, account)` marks an order due. `desk` takes commands;
    without one they are answered 503.
    """
    # Outermost first: what is counted is what was answered.
    middlewares = [count_requests("internal"), envelope, authenticate(keys, _OPEN_ROUTES)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[STATE] = InternalState(database=read_db, mark_due=mark_due, accounts=accounts, health=health, desk=desk)
    for operation in (*OPERATIONS, *_documentation(keys)):
        app.router.add_route(operation.method, operation.path, operation.aiohttp_handler())
        if operation.method == "GET":
            app.router.add_route("HEAD", operation.path, operation.aiohttp_handler())
    return app


def _documentation(keys: Callable[[], KeyRing]) -> tuple[Operation, Operation]:
    text, text_without_keys, page = _documents()

    async def openapi(request: web.Request, asked: NoParameters) -> web.Response:
        del request, asked
        return json_response(text_without_keys if keys().open_to_all else text)

    async def docs(request: web.Request, asked: NoParameters) -> web.Response:
        del request, asked
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff"}
        return web.Response(text=page, content_type="text/html", headers=headers)

    return (
        Operation("GET", "/openapi.json", "openapi", "This document", openapi, "read", {200: ("application/json",)}),
        Operation("GET", "/docs", "docs", "This document for people", docs, "read", {200: ("text/html",)}),
    )


@cache
def _documents() -> tuple[str, str, str]:
    """The document of the API as JSON with and without keys, and as a page: always the same, and slow to make."""
    document, without_keys = (build_document(OPERATIONS, with_keys=with_keys) for with_keys in (True, False))
    return document_text(document), document_text(without_keys), render_page(document)
