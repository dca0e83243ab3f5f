"""How the provider behaves where the fact sheets contradict each other or leave it open. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .config import SimulatorConfig

QUEUED_CODES = (
    "already_queued_order_on_terminal",
    "already_queued_order_for_terminal",
    "already_queued_order_for_device",
)
"""The three spellings of a busy terminal; the first is what live answers say (orders fact sheet, §2.2)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One behaviour of the provider. Times are simulated seconds; `None` switches a rule off."""

    known_pos: frozenset[str] | None = None
    known_terminals: frozenset[str] | None = None
    queued_code: str = QUEUED_CODES[0]
    replaced_order: str = "stays"
    terminal_cancel_seconds: float | None = 3.0
    refund_processing_seconds: float | None = None
    refund_ends: str = "processed"
    refund_window_days: float | None = 180
    decline: str | None = None
    transfer_pays_seconds: float | None = 3.0
    v2_get: str = "array"
    text_payment_ids: bool = False
    orders_shown_days: float | None = None
    search_lists: frozenset[str] | None = None

    def described(self) -> dict[str, Any]:
        """The answer of `GET /_sim/rules`."""
        return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(self).items()}

    def changed(self, body: Mapping[str, Any]) -> "Rules":
        """These rules with what the body of `POST /_sim/rules` changes. Raises `ValueError` naming what is wrong."""
        unknown = body.keys() - READERS.keys()
        if unknown:
            raise ValueError(f"unknown members: {', '.join(sorted(unknown))}; expected {', '.join(READERS)}")
        values = {}
        for name, value in body.items():
            try:
                values[name] = READERS[name](value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return replace(self, **values)


def usual_rules(config: SimulatorConfig) -> Rules:
    """The rules a simulator starts with."""
    return Rules(
        known_pos=None if config.known_pos is None else frozenset(config.known_pos),
        known_terminals=None if config.known_terminals is None else frozenset(config.known_terminals),
    )


def _names(value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("expected an array of texts, or null for any")
    return frozenset(value)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError("expected a number of 0 or more, or null")
    return float(value)


def _text(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise ValueError("expected a text, or null")
    return value


def _flag(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise ValueError("expected true or false")


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return read


READERS: Mapping[str, Callable[[Any], Any]] = {
    "known_pos": _names,
    "known_terminals": _names,
    "queued_code": _one_of(*QUEUED_CODES),
    "replaced_order": _one_of("stays", "canceled"),
    "terminal_cancel_seconds": _number,
    "refund_processing_seconds": _number,
    "refund_ends": _one_of("processed", "failed"),
    "refund_window_days": _number,
    "decline": _text,
    "transfer_pays_seconds": _number,
    "v2_get": _one_of("array", "object"),
    "text_payment_ids": _flag,
    "orders_shown_days": _number,
    "search_lists": _names,
}
