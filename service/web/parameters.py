"""What a request may ask for: one model per query string, strict, every wrong parameter named at once.

The models are the OpenAPI document's parameters, too, so that document and server cannot disagree. An empty text
filter (`?status=`) filters nothing, as a form sends it.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, get_args

from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.mercadopago.reader import parse_time
from service.mercadopago.signature import Result
from service.orders.rules import RULES
from service.web.cursors import (
    COMMANDS_CURSOR,
    DISCREPANCIES_CURSOR,
    NOTIFICATIONS_CURSOR,
    ORDERS_CURSOR,
    QUARANTINE_CURSOR,
)
from service.web.errors import BadParameters

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_TIMELINE = 1000
ORDER_ID = r"^[A-Za-z0-9_-]{1,64}$"
# An order of the Orders API, or MO and the number of a legacy sale's merchant order.
SYNCABLE_ORDER_ID = r"^((ORD|PPORD)[0-9A-Za-z]{10,60}|MO[0-9]{1,20})$"
CANCELABLE_ORDER_ID = r"^(ORD|PPORD)[0-9A-Za-z]{10,60}$"
COMMAND_ID = r"^CMD[0-9A-Z]{26}$"
EXTERNAL_POS_ID = r"^[A-Za-z0-9_-]{1,40}$"
NOTIFICATION_ID = r"^[0-9]{1,18}$"
MAX_WAIT_SECONDS = 30
COMMAND_STATUSES = ("waiting", "sending", "unknown", "accepted", "done", "refused", "withdrawn")
COMMAND_KINDS = ("create", "cancel", "refund", "legacy_put", "legacy_delete")

_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:.]{8,40}([Zz]|[+-][0-9]{2}:[0-9]{2})")
# A plus sign that was not escaped in a query string arrives as a blank.
_LOST_PLUS = re.compile(r" (?=[0-9]{2}:[0-9]{2}$)")
_MAX_TEXT = 255


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("parameter", "{message}", {"message": message})


def _moment(value: object) -> datetime:
    text = _LOST_PLUS.sub("+", value) if isinstance(value, str) else ""
    moment = parse_time(text) if _DATE_TIME.fullmatch(text) else None
    if moment is None:
        raise _wrong("must be an RFC 3339 time with an offset, like 2026-11-05T12:00:00Z")
    return moment


def _whole(value: object) -> int:
    if not (isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII)):
        raise _wrong("must be a whole number")
    return int(value)


def _truth(value: object) -> bool:
    if value not in {"true", "false"}:
        raise _wrong("must be true or false")
    return value == "true"


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value or len(value) > _MAX_TEXT or not _is_unicode(value):
        raise _wrong(f"must be a text of at most {_MAX_TEXT} characters without NUL")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _matching(pattern: str, message: str) -> BeforeValidator:
    def check(value: object) -> str:
        if not (isinstance(value, str) and matches(pattern, value)):
            raise _wrong(message)
        return value

    return BeforeValidator(check)


def matches(pattern: str, text: str) -> bool:
    """Whether a whole text matches; `$` alone would let a trailing line feed pass."""
    return "\n" not in text and re.match(pattern, text, re.ASCII) is not None


def _one_of(names: tuple[str, ...]) -> BeforeValidator:
    def check(value: object) -> str:
        if value != "" and value not in names:
            raise _wrong(f"must be one of {', '.join(names)}")
        return str(value)

    return BeforeValidator(check)


def _names(names: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": ["", *names]})


Text = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema({"type": "string", "maxLength": _MAX_TEXT, "pattern": r"^[^\u0000]*$"}),
]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Truth = Annotated[bool, BeforeValidator(_truth), WithJsonSchema({"type": "boolean"})]
# Our own names: one that is none of them is a mistake. The provider's (status, type, topic, action) are free text.
Rule = Annotated[str, _one_of(RULES), _names(RULES)]
Verdict = Annotated[str, _one_of(get_args(Result)), _names(get_args(Result))]
CommandStatus = Annotated[str, _one_of(COMMAND_STATUSES), _names(COMMAND_STATUSES)]
CommandKind = Annotated[str, _one_of(COMMAND_KINDS), _names(COMMAND_KINDS)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(_whole)]


def _cursor(pattern: str) -> WithJsonSchema:
    meaning = "`next_cursor` of the page before; opaque, good for this list only"
    return WithJsonSchema({"type": "string", "pattern": pattern, "description": meaning})


_NO_CURSOR = "must be a next_cursor of this list"
OrdersCursor = Annotated[str, _matching(ORDERS_CURSOR, _NO_CURSOR), _cursor(ORDERS_CURSOR)]
DiscrepanciesCursor = Annotated[str, _matching(DISCREPANCIES_CURSOR, _NO_CURSOR), _cursor(DISCREPANCIES_CURSOR)]
NotificationsCursor = Annotated[str, _matching(NOTIFICATIONS_CURSOR, _NO_CURSOR), _cursor(NOTIFICATIONS_CURSOR)]
QuarantineCursor = Annotated[str, _matching(QUARANTINE_CURSOR, _NO_CURSOR), _cursor(QUARANTINE_CURSOR)]
CommandsCursor = Annotated[str, _matching(COMMANDS_CURSOR, _NO_CURSOR), _cursor(COMMANDS_CURSOR)]
Wait = Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS), BeforeValidator(_whole)]


class Parameters(BaseModel):
    """A query string's parameters; anything else in it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paged(Parameters):
    """A list's page."""

    limit: Limit = Field(DEFAULT_LIMIT, description="rows per page")


class OrdersParameters(Paged):
    """Filters of the list of orders."""

    cursor: OrdersCursor | None = None
    account: Text | None = None
    status: Text | None = None
    type: Text | None = None
    external_reference: Text | None = None
    updated_since: Moment | None = Field(None, description="orders whose `updated_at` is that or later")


class OrderParameters(Parameters):
    """Which state of one order."""

    as_of: Moment | None = Field(None, description="show what was stored here at that time")


class TimelineParameters(Parameters):
    """How much of a timeline."""

    limit: Annotated[int, Field(ge=1, le=MAX_TIMELINE), BeforeValidator(_whole)] = Field(
        500, description="entries; the newest are kept, and `truncated` says whether older ones were left out"
    )


class SyncParameters(Parameters):
    """Whose order it is, where it is not stored yet."""

    account: Text | None = Field(None, description="account of an order that is not stored yet; else `default`")


class DiscrepanciesParameters(Paged):
    """Filters of the list of discrepancies."""

    cursor: DiscrepanciesCursor | None = None
    state: Literal["open", "resolved", "all"] = "open"
    rule: Rule | None = None
    account: Text | None = None
    order_id: Text | None = None


class NotificationsParameters(Paged):
    """Filters of the list of notifications."""

    cursor: NotificationsCursor | None = None
    account: Text | None = None
    topic: Text | None = None
    resource_id: Text | None = None
    order_id: Text | None = None
    verified: Truth | None = None
    verification: Verdict | None = Field(None, description="what became of the check of its signature")
    action: Text | None = Field(None, description="like order.processed")
    since: Moment | None = Field(None, description="first received at that time or later")


class QuarantineParameters(Paged):
    """Filters of the list of orders in quarantine."""

    cursor: QuarantineCursor | None = None
    account: Text | None = None
    reason: Text | None = Field(None, description="like not_found, unreadable, bad_request")


class CommandParameters(Parameters):
    """How long the answer may take."""

    wait_seconds: Wait = Field(15, description="how long to wait for the outcome; without one in time, 202")


class RefundParameters(Parameters):
    """How long the answer may take. A refund is done when a look at its order shows it, which takes longer."""

    wait_seconds: Wait = Field(2, description="how long to wait for the outcome; without one in time, 202")


class LegacyDeleteParameters(CommandParameters):
    """Whose point of sale it is."""

    account: Text | None = Field(None, description="whose point of sale it is; else `default`, or the only account")


class CommandsParameters(Paged):
    """Filters of the list of commands."""

    cursor: CommandsCursor | None = None
    account: Text | None = None
    status: CommandStatus | None = Field(None, description="the first four are open, the last three settled")
    kind: CommandKind | None = None
    order_id: Text | None = None


class PointsOfSaleParameters(Parameters):
    """Which points of sale."""

    account: Text | None = None
    point_of_sale: Text | None = Field(None, description="`external_pos_id` of a printed QR, `terminal_id` of a Point")


class NoParameters(Parameters):
    """Nothing may be asked."""


P = TypeVar("P", bound=Parameters)


def parse_query(model: type[P], query: MultiMapping[str]) -> P:
    """The query string as `model`. Raises `BadParameters` that names every wrong, unknown and repeated parameter."""
    problems: list[tuple[str, str]] = []
    given: dict[str, Any] = {}
    for name, value in query.items():
        if name not in model.model_fields:
            known = ", ".join(model.model_fields) or "none"
            problems.append((name[:64], f"unknown parameter; known here: {known}"))
        elif name in given:
            problems.append((name, "given more than once"))
        else:
            given[name] = value
    try:
        return _checked(model(**given), problems)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False, include_context=False)
        raise BadParameters([*problems, *((str(one["loc"][0]), one["msg"]) for one in mistakes)]) from None


def _checked(parameters: P, problems: list[tuple[str, str]]) -> P:
    if problems:
        raise BadParameters(problems)
    return parameters


def path_parameter(request: web.Request, name: str, pattern: str) -> str:
    """A part of the path. Raises `BadParameters` where it does not match `pattern`."""
    value = request.match_info[name]
    if not matches(pattern, value):
        raise BadParameters([(name, f"must match {pattern}")])
    return value
