"""The names of commands, and the keys under which they are asked for here and sent to Mercado Pago."""

import re
import secrets
import time
import uuid

from service.desk.errors import Fault, InvalidRequest
from service.mercadopago.json_text import canonical_hash

COMMAND_PREFIX = "CMD"
COMMAND_ID = re.compile(r"CMD[0-9A-HJKMNP-TV-Z]{26}")

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BYTES = 10
_KEY = re.compile(r"[!-~]{1,128}")
# Ours alone, drawn once: keys made from it meet nobody else's.
_PROVIDER_KEYS = uuid.UUID("6f0c2f0e-9a53-4b0e-8a5e-2f6d1c7b94d1")


def new_command_id() -> str:
    """A fresh id: `CMD` and 26 characters, sorted by the time they were made."""
    return command_id(time.time_ns() // 1_000_000, secrets.token_bytes(_RANDOM_BYTES))


def command_id(at_milliseconds: int, randomness: bytes) -> str:
    """The id made of a moment (milliseconds since 1970, below 2**48) and 10 bytes: a ULID after `CMD`."""
    if not 0 <= at_milliseconds < 1 << 48 or len(randomness) != _RANDOM_BYTES:
        raise ValueError("a command id is made of 48 bits of time and 80 bits of chance")
    number = (at_milliseconds << 80) | int.from_bytes(randomness, "big")
    return COMMAND_PREFIX + "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def provider_key(account: str, idempotency_key: str) -> str:
    """The `X-Idempotency-Key` of the command that `account` asks for under `idempotency_key`: always the same UUID.

    It follows from the caller's key alone, so that a caller who repeats itself after this database was put back to an
    older state still meets its first effect at Mercado Pago, and makes no second one (for the 24 h that it remembers).
    """
    return str(uuid.uuid5(_PROVIDER_KEYS, f"{account}\n{idempotency_key}"))


def check_key(value: object) -> str:
    """The caller's `Idempotency-Key`: 1 to 128 printable ASCII characters without a blank.

    Raises `InvalidRequest`.
    """
    if isinstance(value, str) and _KEY.fullmatch(value):
        return value
    raise InvalidRequest(
        [
            Fault(
                "Idempotency-Key",
                "is required: 1 to 128 printable ASCII characters, no blank; a new one for each intent",
            )
        ]
    )


def request_hash(kind: str, target: str | None, request: object) -> bytes:
    """SHA-256 of what is asked for: equal exactly for equal requests, whatever the order of their members.

    `kind` is the command's; `target` the order or the point of sale that it is about; `request` the rest, as
    `parse_json` gave it. Raises `InvalidRequest` for what no JSON document can hold.
    """
    try:
        return canonical_hash([kind, target, request])
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(
            [Fault("order", "must be JSON: finite numbers of sane length, not nested endlessly")]
        ) from None
