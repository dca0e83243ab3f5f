"""What one operation of the internal port is: the route, the key it asks for, what it takes and what it answers.

The table of operations makes both the router and the OpenAPI document.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from service.web.bodies import Body, read_asked
from service.web.keys import KEY, Scope, require_scope
from service.web.models import Document
from service.web.parameters import NoParameters, Parameters, parse_query
from service.web.state import STATE

Carried = type[Document] | tuple[str, ...] | None
"""What an answer carries: a document, media types of a text, or nothing."""

OperationHandler = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A part of the path that must match `pattern`."""

    name: str
    pattern: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope` None means that no key is needed; whatever has the scope `money` is a command, bounded per key.

    `answers` are statuses with what they carry; `meanings` says what a status means here. `body` is the model of the
    request's body (None: none is read), `keyed` asks for an `Idempotency-Key`. `handler` gets the request and its
    checked query string, an instance of `parameters`; a command gets an `Asked` of query string, body and key.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: OperationHandler
    scope: Scope | None
    answers: Mapping[int, Carried]
    parameters: type[Parameters] = NoParameters
    path_parameters: tuple[PathParameter, ...] = ()
    errors: tuple[int, ...] = field(default=())
    meanings: Mapping[int, str] = field(default_factory=dict)
    body: type[Body] | None = None
    keyed: bool = False

    @property
    def commands(self) -> bool:
        """Whether it moves money, or stops what would."""
        return self.scope == "money"

    def aiohttp_handler(self) -> Handler:
        """The handler for the router: scope first, then the key's rate, then what was asked, then the work."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if self.scope is None:
                # Probes and scrapes come with parameters of their own (`?verbose`, `?name[]=…`).
                return await self.handler(request, NoParameters())
            require_scope(request, self.scope)
            if not self.commands:
                return await self.handler(request, parse_query(self.parameters, request.query))
            request.app[STATE].limits.take(request[KEY])
            asked = await read_asked(request, self.parameters, self.body, keyed=self.keyed)
            return await self.handler(request, asked)

        return handle
