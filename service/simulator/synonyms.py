"""Other words for members of control bodies, for whoever guesses them; what is documented are the main names. Pure."""

from collections.abc import Mapping
from typing import Any, Final

CLOCK: Final[Mapping[str, str]] = {"advance": "advance_seconds", "now": "set"}
API_FAULT: Final[Mapping[str, str]] = {"latency": "latency_ms"}
NOTIFICATION_FAULTS: Final[Mapping[str, str]] = {"delay": "delay_ms"}
NEW_ORDER: Final[Mapping[str, str]] = {"amount": "total_amount", "state": "status"}


def by_main_names(body: Mapping[str, Any], synonyms: Mapping[str, str]) -> dict[str, Any]:
    """`body` with every member under its main name. Raises `ValueError` where one is there under both."""
    named: dict[str, Any] = {}
    for given, value in body.items():
        name = synonyms.get(given, given)
        if name in named:
            other = next(synonym for synonym, main in synonyms.items() if main == name)
            raise ValueError(f"{name} and {other} are the same; give one of them")
        named[name] = value
    return named
