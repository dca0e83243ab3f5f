"""What a new order shall look like: the body of `POST /_sim/orders`, read strictly so that a typo is an error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from .clock import parse_duration, parse_time
from .money import SITES, Json, amount_text
from .synonyms import NEW_ORDER, by_main_names

ORDER_TYPES = ("qr", "point", "online")
STATUSES = (
    "created",
    "at_terminal",
    "processing",
    "action_required",
    "processed",
    "partially_refunded",
    "refunded",
    "expired",
    "canceled",
    "failed",
    "charged_back",
)
QUIRKS = frozenset(
    {
        "alpha2_country",
        "site_country",
        "no_currency",
        "two_digit_fractions",
        "nine_digit_fractions",
        "discounts_object",
        "discounts_array",
        "empty_taxes",
        "unknown_fields",
        "number_amounts",
        "refunded_detail_created",
    }
)


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """A new order; what is `None` is drawn or left out. See the package docstring for the members."""

    type: str = "qr"
    total_amount: str | None = None
    external_reference: str | None = None
    status: str = "created"
    status_detail: str | None = None
    id: str | None = None
    test: bool = False
    description: str | None = None
    expiration_time: str | None = None
    created_date: datetime | None = None
    site: str | None = None
    currency: str | None = None
    user_id: str | None = None
    application_id: str | None = None
    mode: str = "static"
    external_pos_id: str | None = None
    terminal_id: str | None = None
    items: tuple[Json, ...] = ()
    discounts: tuple[Json, ...] = ()
    payment_method: Json | None = None
    payment_detail: str | None = None
    paid_amount: str | None = None
    tip_amount: str | None = None
    refunds: tuple[str, ...] = ()
    quirks: frozenset[str] = frozenset()
    overrides: Json = field(default_factory=dict)


def _must(fine: bool, message: str) -> None:
    if not fine:
        raise ValueError(message)


def _text(value: Any) -> str:
    _must(isinstance(value, str) and value != "", "expected a text")
    return str(value)


def _id_text(value: Any) -> str:
    return _text(str(value) if type(value) is int else value)


def _flag(value: Any) -> bool:
    _must(isinstance(value, bool), "expected true or false")
    return bool(value)


def _object(value: Any) -> Json:
    _must(isinstance(value, dict), "expected an object")
    return dict(value)


def _duration(value: Any) -> str:
    parse_duration(_text(value))
    return str(value)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return read


def _many(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(value: Any) -> tuple[Any, ...]:
        _must(isinstance(value, list), "expected an array")
        return tuple(map(read, value))

    return read_all


READERS: Mapping[str, Callable[[Any], Any]] = {
    "type": _one_of(*ORDER_TYPES),
    "total_amount": amount_text,
    "external_reference": _text,
    "status": _one_of(*STATUSES),
    "status_detail": _text,
    "id": _text,
    "test": _flag,
    "description": _text,
    "expiration_time": _duration,
    "created_date": lambda value: parse_time(_text(value)),
    "site": _one_of(*SITES),
    "currency": _text,
    "user_id": _id_text,
    "application_id": _id_text,
    "mode": _one_of("static", "dynamic", "hybrid"),
    "external_pos_id": _text,
    "terminal_id": _text,
    "items": _many(_object),
    "discounts": _many(_object),
    "payment_method": _object,
    "payment_detail": _text,
    "paid_amount": amount_text,
    "tip_amount": amount_text,
    "refunds": _many(amount_text),
    "quirks": lambda value: frozenset(_many(_one_of(*sorted(QUIRKS)))(value)),
    "overrides": _object,
}


def read_spec(body: Mapping[str, Any]) -> OrderSpec:
    """The spec of a control request. Raises `ValueError` naming the member that is wrong."""
    body = by_main_names(body, NEW_ORDER)
    unknown = body.keys() - {known.name for known in fields(OrderSpec)}
    if unknown:
        raise ValueError(f"unknown members: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {}
    for name, value in body.items():
        if value is None:
            continue
        try:
            values[name] = READERS[name](value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return OrderSpec(**values)
