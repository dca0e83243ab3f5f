"""Ids as the provider makes them: a prefix and a ULID whose time is the moment of creation (orders fact sheet, §3)."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ORDER_ID = re.compile(r"^(ORD|ORDTST|PPORD)[0-9A-Za-z]{20,40}$")


def ulid(at: datetime, randomness: int) -> str:
    """26 Crockford base32 characters: 48 bits of milliseconds, the lowest 80 bits of `randomness`."""
    milliseconds = (at - _EPOCH) // timedelta(milliseconds=1)
    value = (milliseconds << 80) | (randomness & ((1 << 80) - 1))
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def ulid_time(text: str) -> datetime:
    """The moment inside a ULID, given with or without its prefix."""
    milliseconds = 0
    for character in text[-26:-16]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(character)
    return _EPOCH + timedelta(milliseconds=milliseconds)


def is_order_id(text: str) -> bool:
    """Whether the provider would look such an id up at all (else it answers 400)."""
    return _ORDER_ID.match(text) is not None


def uuid_text(randomness: int) -> str:
    """A version 4 UUID made of the lowest 128 bits of `randomness`."""
    return str(UUID(int=randomness & ((1 << 128) - 1), version=4))
