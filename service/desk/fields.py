"""Shapes of request bodies, and everything that a body has wrong, each with its place. Pure.

A shape names what must be, not all that may be: members it does not know are passed on untouched, and Mercado Pago
judges them. Only what it is known to reject is named here, with what to do instead.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from service.desk.errors import Fault, InvalidRequest
from service.mercadopago.reader import parse_duration

MAX_FAULTS = 100
"""A body with more of them is no order; the rest is left out."""
MAX_DEPTH = 50
_LONGEST_NUMBER_BITS = 4000  # some 1,200 digits; Python refuses to write whole numbers of more than 4,300

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Faults:
    """What was found wrong so far, one fault for each place."""

    def __init__(self) -> None:
        self._by_path: dict[str, Fault] = {}

    def add(self, path: str, message: str) -> None:
        """The first fault of a place stands."""
        if len(self._by_path) < MAX_FAULTS:
            self._by_path.setdefault(path, Fault(path, message))

    def raise_any(self) -> None:
        """Raises `InvalidRequest` if there are any."""
        if self._by_path:
            raise InvalidRequest(self._by_path.values())


class Shape(Protocol):
    """Something that a value may have or not."""

    def check(self, value: object, path: str, faults: Faults) -> None:
        """Names what is wrong with `value`, if anything; never raises."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text of `shortest` to `longest` characters; `pattern`, whole, with `allowed` to say it; or one of `choices`."""

    longest: int | None = None
    pattern: str | None = None
    allowed: str = ""
    choices: tuple[str, ...] = ()
    shortest: int = 1

    def check(self, value: object, path: str, faults: Faults) -> None:
        """See `Shape`."""
        if not isinstance(value, str):
            faults.add(path, "must be a text" + (f": {self._choices}" if self.choices else ""))
        elif self.choices:
            if value not in self.choices:
                faults.add(path, f"must be {self._choices}")
        elif len(value) < self.shortest or (self.shortest and not value.strip()):
            faults.add(path, "must not be empty")
        elif self.longest is not None and len(value) > self.longest:
            faults.add(path, f"must have at most {self.longest} characters, not {len(value)}")
        elif self.pattern is not None and not re.fullmatch(self.pattern, value):
            faults.add(path, f"must be {self.allowed}")

    @property
    def _choices(self) -> str:
        return "one of " + ", ".join(self.choices)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds, no text; `or_text`: a text will do as well."""

    low: int = 1
    high: int = 10**9
    or_text: bool = False

    def check(self, value: object, path: str, faults: Faults) -> None:
        """See `Shape`."""
        if self.or_text and isinstance(value, str):
            return
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            faults.add(path, f"must be a whole number from {self.low}{' or a text' if self.or_text else ''}")


@dataclass(frozen=True, slots=True)
class Duration:
    """An ISO 8601 duration within bounds; `bounds` says them."""

    shortest: timedelta
    longest: timedelta
    bounds: str

    def check(self, value: object, path: str, faults: Faults) -> None:
        """See `Shape`."""
        length = parse_duration(value)
        if length is None:
            faults.add(path, f"must be an ISO 8601 duration like PT15M, {self.bounds}")
        elif not self.shortest <= length <= self.longest:
            faults.add(path, f"must be {self.bounds}")


@dataclass(frozen=True, slots=True)
class Anything:
    """An object, or an array, whatever it holds."""

    kind: type = dict

    def check(self, value: object, path: str, faults: Faults) -> None:
        """See `Shape`."""
        if not isinstance(value, self.kind):
            faults.add(path, f"must be {'an array' if self.kind is list else 'an object'}")


@dataclass(frozen=True, slots=True)
class Many:
    """An array of `fewest` to `most` entries; `count` says how many."""

    entry: Shape
    count: str = ""
    fewest: int = 0
    most: int | None = None

    def check(self, value: object, path: str, faults: Faults) -> None:
        """See `Shape`."""
        if not isinstance(value, list):
            faults.add(path, "must be an array")
            return
        if len(value) < self.fewest or (self.most is not None and len(value) > self.most):
            faults.add(path, f"must hold {self.count}, not {len(value)}")
        for index, entry in enumerate(value):
            self.entry.check(entry, f"{path}[{index}]", faults)


@dataclass(frozen=True, slots=True)
class Members:
    """An object. `needed` members must be there, `rejected` ones must not (with what to do instead).

    `rule` looks at the object as a whole. `only_known`: members without a shape are faults. An empty path is the
    request's root.
    """

    known: Mapping[str, Shape] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    rule: Callable[[dict[str, object], str, Faults], None] | None = None
    only_known: bool = False

    def check(self, value: object, path: str, faults: Faults) -> None:
        """See `Shape`."""
        if not isinstance(value, dict):
            faults.add(path or "body", "must be an object")
            return
        for name in self.needed:
            if name not in value:
                faults.add(_at(path, name), "is required")
        for name, why in self.rejected.items():
            if name in value:
                faults.add(_at(path, name), f"is not accepted by Mercado Pago here: {why}")
        for name, shape in self.known.items():
            if name in value:
                shape.check(value[name], _at(path, name), faults)
        if self.only_known:
            for name in value:
                if name not in self.known:
                    faults.add(_at(path, shown_name(name)), f"is unknown; there are {', '.join(self.known)}")
        if self.rule is not None:
            self.rule(value, path, faults)


def check_sendable(value: object, path: str, faults: Faults, *, depth: int = 0) -> None:
    """Names every place that could not be written as JSON exactly as it was given, or not be stored.

    JSON as `parse_json` reads it is sendable but for its depth. A binary float is not: its digits are lost already.
    """
    if depth > MAX_DEPTH:
        faults.add(path, f"is nested deeper than {MAX_DEPTH} levels")
    elif isinstance(value, dict):
        for name, member in value.items():
            place = f"{path}.{shown_name(name)}"
            if not isinstance(name, str) or not _is_plain(name):
                faults.add(place, "must have a name that can be sent")
            check_sendable(member, place, faults, depth=depth + 1)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            check_sendable(entry, f"{path}[{index}]", faults, depth=depth + 1)
    else:
        wrong = _unsendable(value)
        if wrong is not None:
            faults.add(path, wrong)


def _unsendable(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return None if _is_plain(value) else "must not hold NUL or half a surrogate pair"
    if isinstance(value, int):
        return None if value.bit_length() <= _LONGEST_NUMBER_BITS else "is too long a number"
    if isinstance(value, Decimal):
        return None if value.is_finite() else "must be a finite number"
    if isinstance(value, float):
        return "is a binary fraction that has lost its digits; give it as text"
    return "is no JSON value"


def _is_plain(text: str) -> bool:
    return "\x00" not in text and (text.isascii() or _LONE_SURROGATE.search(text) is None)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def shown_name(name: object) -> str:
    """A member's name as part of a path: printable, and short."""
    text = ascii(str(name) if isinstance(name, str | int | bool) or name is None else "?")[1:-1]
    return text if len(text) <= 40 else text[:40] + "…"


def member(value: object, *names: str | int) -> object:
    """What stands at that place of a document; None where there is no such place."""
    for name in names:
        if isinstance(name, int):
            value = value[name] if isinstance(value, list) and name < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def entries(value: object) -> list[object]:
    """The entries of an array; none where it is no array."""
    return value if isinstance(value, list) else []
