"""What one operation of the internal port is: the route, the key it asks for, its parameters and its answers.

The table of operations makes both the router and the OpenAPI document.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from service.web.keys import Scope, require_scope
from service.web.models import Document
from service.web.parameters import NoParameters, Parameters, parse_query

OperationHandler = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A part of the path that must match `pattern`."""

    name: str
    pattern: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope` None means that no key is needed. `answers` are statuses with what they carry (media types for text).

    `handler` gets the request and its checked query string, an instance of `parameters`.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: OperationHandler
    scope: Scope | None
    answers: Mapping[int, type[Document] | tuple[str, ...]]
    parameters: type[Parameters] = NoParameters
    path_parameters: tuple[PathParameter, ...] = ()
    errors: tuple[int, ...] = field(default=())

    def aiohttp_handler(self) -> Handler:
        """The handler for the router: scope first, then parameters, then the work."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if self.scope is not None:
                require_scope(request, self.scope)
                return await self.handler(request, parse_query(self.parameters, request.query))
            # Probes and scrapes come with parameters of their own (`?verbose`, `?name[]=…`).
            return await self.handler(request, NoParameters())

        return handle
