"""JSON from outside, read without losing a digit and made fit for Postgres' `jsonb`.

Strict about what JSON is (UTF-8, no NaN, no endless nesting), tolerant about what it says. `jsonb` refuses three
things that JSON allows; each is replaced by something visible, and the document is marked as altered:

* a NUL inside a string or key becomes the six characters `\\u0000`;
* half a surrogate pair becomes U+FFFD;
* a number with more than 1,000 digits before or after its point (`numeric` holds more, but not without end) becomes a
  string of its text.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring

MAX_DEPTH = 200
MAX_DIGITS = 1000
# A number of so few characters, without an exponent, cannot reach `MAX_DIGITS`: no closer look is needed.
_PLAIN_LENGTH = 400

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class NotJson(ValueError):  # noqa: N818 - says what the bytes are, not that something broke
    """The bytes are no JSON document that we take. The message is one line and holds nothing of the bytes."""


@dataclass(frozen=True, slots=True)
class JsonDocument:
    """`value` has `Decimal` for numbers with point or exponent, `text` suits `jsonb`; both show what was replaced."""

    value: object
    text: str
    altered: bool


class _OddNumber(Exception):  # noqa: N818 - a signal within this module: read again, with care
    pass


def parse_json(raw: bytes) -> JsonDocument:
    """Reads one JSON document. Raises `NotJson`, and nothing else, whatever the bytes are."""
    try:
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from None
    altered = False
    try:
        value = _decoded(_PLAIN, text)
    except _OddNumber:
        replaced: list[str] = []
        value = _decoded(_careful_decoder(replaced.append), text)
        altered = bool(replaced)
    if text.count("[") + text.count("{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels")
    if "\\u0000" in text or "\\ud" in text or "\\uD" in text:
        cleaned = _clean(value)
        altered = altered or cleaned is not value
        value = cleaned
    return JsonDocument(value, dumps(value) if altered else text, altered)


def clean_text(text: str) -> str:
    """`text` as Postgres takes it: NUL becomes the six characters `\\u0000`, a lone surrogate U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\\u0000")
    if not text.isascii() and _LONE_SURROGATE.search(text):
        text = _LONE_SURROGATE.sub("\ufffd", text)
    return text


def dumps(value: object) -> str:
    """Compact JSON of dicts, lists, strings, numbers and None. A `Decimal` is written as a number, with its digits.

    Raises `TypeError` for anything else and `ValueError` for numbers that JSON cannot write (NaN, Infinity).
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{encode_basestring(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("JSON has no NaN or Infinity")
        return str(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def canonical_hash(value: object) -> bytes:
    """SHA-256 over canonical JSON: equal exactly when two documents say the same, whatever their order and spacing.

    Numbers compare by their digits: 12.5 and 12.50 differ, 1e2 and 100 do not (nor do they for `jsonb`). `value` is
    one that `parse_json` gave.
    """
    return hashlib.sha256(_CANONICAL.encode(value).encode("ascii")).digest()


def _decoded(decoder: json.JSONDecoder, text: str) -> object:
    try:
        value: object = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from None
    return value


def _refuse_constant(name: str) -> object:
    raise NotJson(f"{name} is no JSON number")


def _plain_int(text: str) -> int:
    if len(text) > _PLAIN_LENGTH:
        raise _OddNumber
    return int(text)


def _plain_decimal(text: str) -> Decimal:
    if len(text) > _PLAIN_LENGTH or "e" in text or "E" in text:
        raise _OddNumber
    return Decimal(text)


_PLAIN = json.JSONDecoder(parse_int=_plain_int, parse_float=_plain_decimal, parse_constant=_refuse_constant)


def _careful_decoder(on_replaced: Callable[[str], None]) -> json.JSONDecoder:
    def careful_int(text: str) -> int | str:
        if len(text.lstrip("-")) <= MAX_DIGITS:
            return int(text)
        on_replaced(text)
        return text

    def careful_decimal(text: str) -> Decimal | str:
        number = _decimal_within_limits(text)
        if number is None:
            on_replaced(text)
            return text
        return number

    # The stubs want numbers of `parse_int`; the decoder itself takes whatever it is given.
    return json.JSONDecoder(parse_int=careful_int, parse_float=careful_decimal, parse_constant=_refuse_constant)


def _decimal_within_limits(text: str) -> Decimal | None:
    if len(text) > 2 * MAX_DIGITS + 32:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal itself can hold
        return None
    exponent = number.as_tuple().exponent
    return number if isinstance(exponent, int) and exponent >= -MAX_DIGITS and number.adjusted() < MAX_DIGITS else None


def _deeper_than(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        below: list[Iterable[object]] = []
        for item in level:
            if isinstance(item, dict):
                below.append(item.values())
            elif isinstance(item, list):
                below.append(item)
        if not below:
            return False
        level = [child for container in below for child in container]
    return True


def _clean(value: object) -> object:
    """`value` with its texts cleaned; the very same object where there was nothing to clean."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        items = [_clean(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        entries = {clean_text(key): _clean(item) for key, item in value.items()}
        unchanged = len(entries) == len(value) and all(
            new_key == old_key and entries[new_key] is value[old_key]
            for new_key, old_key in zip(entries, value, strict=True)
        )
        return value if unchanged else entries
    return value


def _canonical_number(value: object) -> object:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is no JSON value")
    text = format(abs(value) if value.is_zero() else value, "f")
    # The key cannot come from a document: NUL is replaced in all of them.
    return {"\x00": text} if "." in text else int(text)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_canonical_number, check_circular=False)
