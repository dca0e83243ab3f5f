"""What the internal port answers when it cannot do what was asked: one envelope, one status and code per reason.

    ApiError                     status, code, message, details; what a handler raises
    ├── BadParameters     400    every wrong parameter, by name
    ├── Unauthenticated   401    no key, or none that we know
    ├── CommandKeyMissing 401    the port is open to all, and commands need a key all the same
    ├── ScopeMissing      403    the key does not reach that far
    ├── NotFound          404    nothing of that name is stored
    └── TooManyCommands   429    the key commands faster than it may

A body is `{"error": {"code", "message", "details"}}`; `details` is a list of `{"field", "message"}`, mostly empty.
An answer about a command bears it beside the error: `{"error", "command", "order"?}`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service.database.pool import ITEM_FAULT, UNAVAILABLE

_log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 2
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# aiohttp's own refusals, in our words.
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large", 417: "expectation_failed"}
MAX_BODY_BYTES = 64 * 1024


class ApiError(Exception):
    """An answer that is no success. `details` names what is wrong, field by field; `beside` are members of the answer
    besides `error`, as JSON text.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        beside: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = [{"field": field, "message": text} for field, text in details]
        self.headers = dict(headers or {})
        self.beside = dict(beside or {})


class BadParameters(ApiError):  # noqa: N818 - the tree reads as what is told to the caller
    """400: `problems` are (parameter, what it must be)."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = list(problems)
        message = "; ".join(f"{field}: {text}" for field, text in self.problems)
        super().__init__(400, "bad_parameters", message, details=self.problems)


class Unauthenticated(ApiError):  # noqa: N818 - see above
    """401: the same words for a missing, malformed and unknown key."""

    def __init__(self) -> None:
        super().__init__(
            401,
            "unauthenticated",
            "send a known key as `Authorization: Bearer KEY` (keys: CUADRE_API_KEYS_FILE)",
            headers={"WWW-Authenticate": "Bearer"},
        )


class CommandKeyMissing(ApiError):  # noqa: N818 - see above
    """401: reading is open to all here, and commands are not."""

    def __init__(self) -> None:
        super().__init__(
            401,
            "unauthenticated",
            "commands need a key, also with CUADRE_INTERNAL_AUTH=off: send one of scope money as `Authorization: "
            "Bearer KEY` (keys: CUADRE_API_KEYS_FILE)",
            headers={"WWW-Authenticate": "Bearer"},
        )


class ScopeMissing(ApiError):  # noqa: N818 - see above
    """403: the key is known, and does not have this scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(403, "scope_missing", f"this key lacks the scope {scope}")


class NotFound(ApiError):  # noqa: N818 - see above
    """404: `message` says what is not there."""

    def __init__(self, message: str, code: str = "not_found") -> None:
        super().__init__(404, code, message)


class TooManyCommands(ApiError):  # noqa: N818 - see above
    """429: nothing was read or written; `seconds` later there is room for one."""

    def __init__(self, per_second: float, seconds: int) -> None:
        super().__init__(
            429,
            "too_many_commands",
            f"this key may command {per_second:g} times a second; nothing was done, send it again in {seconds} s",
            headers={"Retry-After": str(seconds)},
        )


def unavailable() -> ApiError:
    """503: the database is not there right now."""
    return ApiError(
        503,
        "database_unavailable",
        "the database cannot answer right now; ask again",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def json_response(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON text as an answer that nobody caches."""
    return web.Response(
        text=text, status=status, content_type="application/json", headers={**_HEADERS, **(headers or {})}
    )


def error_response(error: ApiError) -> web.Response:
    """The envelope. Texts from outside are plain ASCII in it, whatever they were."""
    document: dict[str, Any] = {"code": error.code, "message": error.message, "details": error.details}
    members = [f'"error":{json.dumps(document)}', *(f'"{name}":{text}' for name, text in error.beside.items())]
    return json_response("{" + ",".join(members) + "}", status=error.status, headers=error.headers)


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns everything that is raised into the envelope; what went wrong inside is logged and never told."""
    try:
        return await handler(request)
    except ApiError as error:
        return error_response(error)
    except web.HTTPException as error:
        return error_response(_of_http(error))
    except Exception as error:
        # The last line of defence: a caller never sees our internals.
        if isinstance(error, UNAVAILABLE) and not isinstance(error, ITEM_FAULT):
            _log.warning("database_unavailable", route=route_of(request), error=type(error).__name__)
            return error_response(unavailable())
        _log.exception("request_failed", route=route_of(request), method=request.method)
        return error_response(ApiError(500, "internal_error", "something went wrong here; the log says what"))


def _of_http(error: web.HTTPException) -> ApiError:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = _HTTP_CODES.get(error.status, f"http_{error.status}")
    message = {
        404: "nothing is served there",
        405: f"only {headers.get('Allow', '')} there",
        413: f"a body has at most {MAX_BODY_BYTES} bytes",
    }.get(error.status)
    return ApiError(error.status, code, message or error.reason, headers=headers)


def route_of(request: web.Request) -> str:
    """The pattern that the request matched, never its path: a label and a log field that cannot grow."""
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical
