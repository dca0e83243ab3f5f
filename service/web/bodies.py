"""What a command brings along: its JSON body and its `Idempotency-Key`, strict, every fault named at once.

A body says each thing once and exactly: no key is given twice in an object, and a number with a point is a `Decimal`
with the digits that were sent. No body is ever logged or repeated in an error.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Generic, NoReturn, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.desk.legacy_rules import LONGEST_TTL_SECONDS
from service.web.errors import BadParameters
from service.web.parameters import Parameters, Text, matches, parse_query

KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = r"^[!-~]{1,128}$"
MAX_DEPTH = 32
# More digits than any amount has; less than what makes arithmetic slow.
_MAX_DIGITS = 60
_NO_UNICODE = re.compile("[\x00\ud800-\udfff]")
_AMOUNT = r"^[0-9]{1,15}(\.[0-9]{1,8})?$"
# The provider's ids of payments: PAY…, or the Payments API's number.
_PAYMENT_ID = r"^[A-Za-z0-9_-]{1,64}$"


class UnusableBody(ValueError):  # noqa: N818 - says what the bytes are, not that something broke
    """The bytes are no JSON object that a command may bring. The message is one line and repeats no value."""


class Body(BaseModel):
    """A command's body; nothing but its fields may stand in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    MUST_BE_SENT: ClassVar[bool] = False
    """Whether an absent body is refused, rather than read as `{}`."""


class EmptyBody(Body):
    """Nothing, or `{}`."""


def _order(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PydanticCustomError("body", "must be an object: the provider's own body")
    return value


def _matching(pattern: str, wanted: str) -> BeforeValidator:
    def check(value: object) -> str:
        if not (isinstance(value, str) and matches(pattern, value)):
            raise PydanticCustomError("body", "{wanted}", {"wanted": wanted})
        return value

    return BeforeValidator(check)


def _not_null(value: object) -> object:
    """Null may be an amount that got lost on its way; what is left out on purpose is left out."""
    if value is None:
        raise PydanticCustomError("body", "must not be null; leave the member out to ask for all that is left")
    return value


def _without_default(schema: dict[str, Any]) -> None:
    """What may be left out is told by `required`; null is no value that may be sent."""
    schema.pop("default", None)


OrderObject = Annotated[dict[str, Any], BeforeValidator(_order), WithJsonSchema({"type": "object"})]
AmountText = Annotated[
    str | None,
    _matching(_AMOUNT, 'must be a decimal string like "24.90"'),
    BeforeValidator(_not_null),
    WithJsonSchema({"type": "string", "pattern": _AMOUNT, "examples": ["24.90"]}),
]
PaymentId = Annotated[
    str | None,
    _matching(_PAYMENT_ID, f"must match {_PAYMENT_ID}"),
    BeforeValidator(_not_null),
    WithJsonSchema({"type": "string", "pattern": _PAYMENT_ID}),
]


class CreateBody(Body):
    """An order to create."""

    account: Text | None = Field(None, description="whose order it will be; else `default`, or the only account")
    order: OrderObject = Field(description="the body of the provider's `POST /v1/orders`; amounts are strings")


class RefundBody(Body):
    """What to give back: `{}`, without an amount, is all that is left, of the payment or of the order."""

    MUST_BE_SENT: ClassVar[bool] = True

    payment_id: PaymentId = Field(
        None, description="needed with an amount where several payments are paid", json_schema_extra=_without_default
    )
    amount: AmountText = Field(None, json_schema_extra=_without_default)


class LegacyPutBody(Body):
    """A sale to put on a printed QR by the legacy attended model."""

    account: Text | None = Field(None, description="whose point of sale it is; else `default`, or the only account")
    order: OrderObject = Field(description="the legacy V1 body, whichever generation the account speaks")
    ttl_seconds: int | None = Field(None, ge=1, le=LONGEST_TTL_SECONDS, description="how long it can be paid; else 600")


P = TypeVar("P", bound=Parameters)
B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Asked(Generic[P, B]):
    """A command's request, checked: its query string, its body, its `Idempotency-Key` ("" where none is asked for)."""

    query: P
    body: B
    key: str = ""


async def read_asked(request: web.Request, query: type[P], body: type[Body] | None, *, keyed: bool) -> Asked[P, Body]:
    """The request as `query` and `body`, with its key. Raises `BadParameters` with every fault of all three.

    Without a model for the body, what was sent is not looked at, and an empty one is handed on.
    """
    problems: list[tuple[str, str]] = []
    parameters: P | None = None
    content: Body = EmptyBody()
    try:
        parameters = parse_query(query, request.query)
    except BadParameters as error:
        problems += error.problems
    key = _read_key(request, problems) if keyed else ""
    if body is not None:
        try:
            content = parse_body(body, await _read_object(request, must_be_sent=body.MUST_BE_SENT))
        except UnusableBody as error:
            problems.append(("body", str(error)))
        except BadParameters as error:
            problems += error.problems
    if problems or parameters is None:
        raise BadParameters(problems)
    return Asked(parameters, content, key)


def _read_key(request: web.Request, problems: list[tuple[str, str]]) -> str:
    given = request.headers.getall(KEY_HEADER, [])
    if len(given) == 1 and matches(KEY_PATTERN, given[0]):
        return given[0]
    what = "missing; " if not given else "given more than once; " if len(given) > 1 else ""
    problems.append((KEY_HEADER, f"{what}must be 1 to 128 visible ASCII characters, the same at every repeat"))
    return ""


async def _read_object(request: web.Request, *, must_be_sent: bool) -> dict[str, Any]:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnusableBody("send it without a Content-Encoding")
    try:
        raw = await request.read()
    except web.RequestPayloadError:
        raise UnusableBody("it broke off, or is not what its headers say") from None
    if not raw.strip():
        if must_be_sent:
            raise UnusableBody("missing; send {} to ask for all that is left")
        return {}
    if request.content_type != "application/json":
        raise UnusableBody("must be JSON, with `Content-Type: application/json`")
    return parse_object(raw)


def parse_body(model: type[B], content: dict[str, Any]) -> B:
    """The object as `model`. Raises `BadParameters` that names every wrong, unknown and missing member by its path."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False, include_context=False)
        known = ", ".join(model.model_fields) or "none"
        raise BadParameters(
            (".".join(str(step)[:64] for step in one["loc"]), _meaning(one["type"], one["msg"], known))
            for one in mistakes
        ) from None


def _meaning(kind: str, message: str, known: str) -> str:
    if kind == "extra_forbidden":
        return f"unknown member; known here: {known}"
    return "missing" if kind == "missing" else message


def parse_object(raw: bytes) -> dict[str, Any]:
    """One JSON object; numbers with a point or an exponent are `Decimal`. Raises `UnusableBody`, and nothing else."""
    try:
        value = _DECODER.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise UnusableBody(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise UnusableBody(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise UnusableBody(f"nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(value, dict):
        raise UnusableBody("must be a JSON object")
    _check_depth_and_texts(value)
    return value


def _check_depth_and_texts(top: dict[str, Any]) -> None:
    level: list[object] = [top]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str) and _NO_UNICODE.search(item):
                raise UnusableBody("a text holds NUL or half a surrogate pair")
        if not below:
            return
        level = below
    raise UnusableBody(f"nested deeper than {MAX_DEPTH} levels")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnusableBody(f"{twice[:64]!a} stands twice in one object")
    return found


def _whole_number(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise UnusableBody(f"a number has more than {_MAX_DIGITS} digits")
    return int(text)


def _exact_number(text: str) -> Decimal:
    try:
        number = Decimal(text) if len(text) <= 2 * _MAX_DIGITS else Decimal("Infinity")
    except InvalidOperation:
        number = Decimal("Infinity")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _MAX_DIGITS or abs(number.adjusted()) > _MAX_DIGITS:
        raise UnusableBody(f"a number has more than {_MAX_DIGITS} digits")
    return number


def _no_number(name: str) -> NoReturn:
    raise UnusableBody(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_whole_number, parse_float=_exact_number, parse_constant=_no_number
)
