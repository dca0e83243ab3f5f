"""The `x-signature` header, in every way it has been seen or suspected (notifications fact sheet, §4)."""

import hmac
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Literal, get_args

SignVariant = Literal["lowercase", "verbatim", "wrong", "none", "ms", "no_request_id"]
SIGN_VARIANTS: Sequence[str] = get_args(SignVariant)


def manifest(data_id: str | None, request_id: str | None, ts: str) -> str:
    """The signed text; parts without a value are left out entirely."""
    parts = []
    if data_id:
        parts.append(f"id:{data_id};")
    if request_id:
        parts.append(f"request-id:{request_id};")
    return "".join(parts) + f"ts:{ts};"


def digest(secret: str, text: str) -> str:
    """HMAC-SHA256 with the secret's own characters as key, in hex."""
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def signature_headers(
    variant: str, secret: str | None, data_id: str | None, request_id: str, at: datetime
) -> dict[str, str]:
    """`X-Request-Id` and `X-Signature` of one delivery signed at `at`.

    `ms` writes the time stamp in milliseconds, `no_request_id` leaves that header and its part of the manifest out,
    `wrong` signs with another secret, `none` does not sign. Without a secret nothing is signed.
    """
    headers = {} if variant == "no_request_id" else {"X-Request-Id": request_id}
    if secret is None or variant == "none":
        return headers
    seconds = at.timestamp()
    ts = str(round(seconds * 1000)) if variant == "ms" else str(int(seconds))
    signed_id = data_id if variant == "verbatim" else (data_id or "").lower()
    key = f"not-{secret}" if variant == "wrong" else secret
    text = manifest(signed_id, headers.get("X-Request-Id"), ts)
    headers["X-Signature"] = f"ts={ts},v1={digest(key, text)}"
    return headers
