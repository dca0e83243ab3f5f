"""Shapes of request bodies, and what a body has wrong, in the provider's words (orders fact sheet, §8). Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MESSAGES: Mapping[str, str] = {
    "unsupported_properties": "Unsupported properties",
    "required_properties": "Missing properties",
    "minimum_properties": "Not enough properties",
    "property_type": "Invalid property type",
    "property_value": "Invalid value",
    "minimum_items": "Invalid number of items",
    "maximum_items": "Invalid number of items",
}
"""What each code says. When a body has several kinds of faults, the first kind in this order is told, with all of its
places."""


class Invalid(Exception):  # noqa: N818 - names the refusal
    """A request the API refuses. `details` name the places."""

    def __init__(self, status: int, code: str, message: str, *details: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True, slots=True)
class Text:
    """A text. `check` raises `ValueError` for a value that will not do."""

    longest: int | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low`."""

    low: int = 1


@dataclass(frozen=True, slots=True)
class Anything:
    """Whatever; `kinds` are the Python types it may have, all when there are none."""

    kinds: tuple[type, ...] = ()


@dataclass(frozen=True, slots=True)
class Many:
    """An array."""

    item: "Shape"
    fewest: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """An object. `closed`: no other members than the known ones; `fewest`: how many it must have."""

    known: Mapping[str, "Shape"] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    closed: bool = True
    fewest: int = 0


Shape = Text | Whole | Anything | Many | Members
Wrong = tuple[str, str]
"""A code and its detail."""


def check(shape: Shape, body: Any) -> None:
    """Raise `Invalid` (400) when `body` does not have that shape."""
    found = list(wrongs(shape, body, "$"))
    for code, message in MESSAGES.items():
        details = [detail for known, detail in found if known == code]
        if details:
            raise Invalid(400, code, message, *details)


def wrongs(shape: Shape, value: Any, path: str) -> Iterator[Wrong]:
    """Everything `value` has wrong."""
    if isinstance(shape, Members):
        yield from _members(shape, value, path)
    elif isinstance(shape, Many):
        yield from _many(shape, value, path)
    elif isinstance(shape, Text):
        yield from _text(shape, value, path)
    elif isinstance(shape, Whole):
        if type(value) is not int:
            yield _type(path, "integer", value)
        elif value < shape.low:
            yield "property_value", f"must be at least {shape.low}: '{path}'"
    elif shape.kinds and not isinstance(value, shape.kinds):
        yield _type(path, " or ".join(_name(kind) for kind in shape.kinds), value)


def _members(shape: Members, value: Any, path: str) -> Iterator[Wrong]:
    if not isinstance(value, dict):
        yield _type(path, "object", value)
        return
    if len(value) < shape.fewest:
        yield "minimum_properties", f"minimum {shape.fewest} properties required: '{path}'"
    for name in shape.needed:
        if value.get(name) is None:
            yield "required_properties", f"missing properties: '{path}.{name}'"
    for name, item in value.items():
        if name in shape.known:
            if not (item is None and name in shape.needed):
                yield from wrongs(shape.known[name], item, f"{path}.{name}")
        elif shape.closed:
            yield "unsupported_properties", f"additionalProperties '{path}.{name}' not allowed"


def _many(shape: Many, value: Any, path: str) -> Iterator[Wrong]:
    if not isinstance(value, list):
        yield _type(path, "array", value)
        return
    if len(value) < shape.fewest:
        yield "minimum_items", f"minimum {shape.fewest} items required, but found {len(value)} items: '{path}'"
    if shape.most is not None and len(value) > shape.most:
        yield "maximum_items", f"maximum {shape.most} items allowed, but found {len(value)} items: '{path}'"
    for index, item in enumerate(value):
        yield from wrongs(shape.item, item, f"{path}[{index}]")


def _text(shape: Text, value: Any, path: str) -> Iterator[Wrong]:
    if not isinstance(value, str):
        yield _type(path, "string", value)
        return
    if shape.choices and value not in shape.choices:
        yield "property_value", f"must be one of {', '.join(shape.choices)}: '{path}'"
    elif shape.longest is not None and len(value) > shape.longest:
        yield "property_value", f"length must be <= {shape.longest}, but got {len(value)}: '{path}'"
    elif shape.pattern is not None and not re.fullmatch(shape.pattern, value):
        yield "property_value", f"does not match pattern '{shape.pattern}': '{path}'"
    elif shape.check is not None:
        try:
            shape.check(value)
        except ValueError as error:
            yield "property_value", f"{error}: '{path}'"


def _type(path: str, expected: str, value: Any) -> Wrong:
    return "property_type", f"expected {expected}, but got {_name(type(value))}: '{path}'"


def _name(kind: type) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(kind, "null")
