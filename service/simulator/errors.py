"""The provider's error envelopes (orders fact sheet, §8): `errors[]`, the flat one of 401, the gateway's one of 403."""

from collections.abc import Sequence

from aiohttp import web

from .money import Json
from .payloads import dump_json

DEFAULT_ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_path_param", "path param order id is invalid"),
    404: ("order_not_found", "Order not found."),
    409: ("processor_communication_error", "The operation could not be completed. Try again shortly."),
    422: ("unprocessable_entity", "The operation could not be processed."),
    423: ("resource_locked", "another request with this idempotency key is still running"),
    425: ("order_payment_not_yet_enabled_for_refund", "The payment is not yet enabled for refund."),
    428: ("insufficient_money_for_refund", "The account has not enough money for the refund."),
    429: ("too_many_requests", "Too many requests."),
}
"""What a status says when nothing else is asked for."""
NOT_YET_MESSAGES = {
    "processor_communication_error": DEFAULT_ERRORS[409][1],
    "unprocessable_entity": DEFAULT_ERRORS[422][1],
    "post_processing_operation_pending": "The payment is still being processed. Try again shortly.",
    "order_payment_not_yet_enabled_for_refund": DEFAULT_ERRORS[425][1],
}


def message_of(status: int, code: str) -> str:
    """What a refusal says that is over after a while."""
    return NOT_YET_MESSAGES.get(code) or DEFAULT_ERRORS[status][1]


def json_response(status: int, body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    """An answer of the API."""
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def envelope(code: str, message: str, details: Sequence[str] = ()) -> Json:
    """`{"errors":[{code, message, details?}]}`."""
    error: Json = {"code": code, "message": message}
    return {"errors": [error | {"details": list(details)} if details else error]}


def error(status: int, code: str, message: str, details: Sequence[str] = ()) -> web.Response:
    """An error in the usual envelope."""
    return json_response(status, dump_json(envelope(code, message, details)))


def unauthorized(message: str = "authorization value not present") -> web.Response:
    """401 in the flat envelope, as observed."""
    return json_response(401, dump_json({"code": "unauthorized", "message": message}))


def policy_agent() -> web.Response:
    """403 of the gateway in front of the API, as a `TEST-` token gets it."""
    return json_response(
        403,
        dump_json(
            {
                "message": "At least one policy returned UNAUTHORIZED.",
                "code": "PA_UNAUTHORIZED_RESULT_FROM_POLICIES",
                "status": 403,
                "blocked_by": "PolicyAgent",
            }
        ),
    )


def default_error(status: int, code: str | None = None, message: str | None = None) -> web.Response:
    """What the API says with `status` when a fault asks for it."""
    if code is None and status == 401:
        return unauthorized(message or "invalid access token")
    if code is None and status == 403:
        return policy_agent()
    usual = DEFAULT_ERRORS.get(status, ("internal_error", "An internal error occurred. Try again later."))
    return error(status, code or usual[0], message or usual[1])


def legacy_error(status: int, code: str, message: str, number: int | None = None) -> web.Response:
    """An error of the older APIs: `{message, error, status, cause: [{code, description}]}` (orders sheet, §8.1)."""
    cause = [] if number is None else [{"code": number, "description": message}]
    return json_response(status, dump_json({"message": message, "error": code, "status": status, "cause": cause}))


def in_store_error(status: int, code: str, message: str) -> web.Response:
    """An error of the legacy attended QR: `{error, message, status, causes}` (legacy fact sheet, §1)."""
    return json_response(status, dump_json({"error": code, "message": message, "status": status, "causes": []}))


LEGACY_ERRORS: dict[int, tuple[str, str]] = {
    400: ("bad_request", "bad request"),
    401: ("unauthorized", "invalid access token"),
    403: ("forbidden", "forbidden"),
    404: ("not_found", "resource not found"),
    429: ("too_many_requests", "local rate limited"),
}


def default_legacy_error(status: int, code: str | None = None, message: str | None = None) -> web.Response:
    """What the older APIs say with `status` when a fault asks for it."""
    usual = LEGACY_ERRORS.get(status, ("internal_error", "internal error"))
    return legacy_error(status, code or usual[0], message or usual[1])
