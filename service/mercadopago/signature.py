"""The `x-signature` of a notification: HMAC-SHA256 over `id:<data.id>;request-id:<x-request-id>;ts:<ts>;`.

The provider's documents and its SDKs disagree about the case of `data.id`, so both are tried with every secret, with
the request id and without. The body is not signed: even a valid signature vouches for the order's id and nothing else.
`ts` is never a reason to refuse (retries come for days, clocks differ); its age is recorded.
Source: fact sheet of the notifications, §4.
"""

import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Result = Literal["valid", "mismatch", "missing", "malformed", "not_checked"]
Manifest = Literal["lower", "verbatim"]

_MAX_HEADER_LENGTH = 4096
_MAX_TS_DIGITS = 20
# Seconds reach eleven digits in the year 5138; milliseconds passed them in 1973.
_MILLISECONDS_FROM = 10**11
_SHA256_HEX = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class Verification:
    """How a check came out.

    `manifest` says which casing of `data.id` matched (`lower` where the id has no case), `secret_index` which of the
    given secrets. `ts_age_seconds` is our clock minus the signed time; negative when the signed time lies ahead.
    """

    result: Result
    manifest: Manifest | None = None
    secret_index: int | None = None
    ts_age_seconds: float | None = None

    @property
    def verified(self) -> bool:
        return self.result == "valid"


NOT_CHECKED = Verification("not_checked")
_MISSING = Verification("missing")
_MALFORMED = Verification("malformed")


def verify(
    *, signature: str | None, request_id: str | None, data_id: str | None, secrets: Sequence[str], now: float
) -> Verification:
    """Checks one notification; never raises, whatever the strings hold.

    `signature` and `request_id` are the headers' values, `data_id` the query's `data.id`, each `None` where absent;
    `now` is Unix time in seconds. An empty secret verifies nothing, so no secret at all is a `mismatch`.
    """
    if signature is None or not signature.strip():
        return _MISSING
    parts = _parts(signature)
    if parts is None:
        return _MALFORMED
    ts, claimed = parts
    instant = int(ts)
    age = now - (instant / 1000 if instant > _MILLISECONDS_FROM else instant)
    for index, secret in enumerate(secrets):
        if not secret.strip():
            continue
        key = _bytes(secret)
        for casing, manifest in _manifests(data_id or "", request_id or "", ts):
            if hmac.compare_digest(hmac.digest(key, manifest, "sha256"), claimed):
                return Verification("valid", casing, index, age)
    return Verification("mismatch", ts_age_seconds=age)


def _parts(signature: str) -> tuple[str, bytes] | None:
    """The literal `ts` and the digest claimed by `v1`; of a repeated key the last counts, as in the provider's SDKs."""
    if len(signature) > _MAX_HEADER_LENGTH:
        return None
    ts = v1 = ""
    for part in signature.split(","):
        key, _, value = part.partition("=")
        name = key.strip().lower()
        if name == "ts":
            ts = value.strip()
        elif name == "v1":
            v1 = value.strip()
    if not (ts.isascii() and ts.isdigit() and len(ts) <= _MAX_TS_DIGITS and _SHA256_HEX.fullmatch(v1)):
        return None
    return ts, bytes.fromhex(v1)


def _manifests(data_id: str, request_id: str, ts: str) -> Iterator[tuple[Manifest, bytes]]:
    """What may have been signed, likeliest first. A part without a value is left out altogether."""
    lower = data_id.lower()
    spellings: tuple[tuple[Manifest, str], ...] = (("lower", lower),)
    if lower != data_id:
        spellings += (("verbatim", data_id),)
    for with_request_id in (request_id, "") if request_id else ("",):
        request_part = f"request-id:{with_request_id};" if with_request_id else ""
        for casing, spelling in spellings:
            id_part = f"id:{spelling};" if spelling else ""
            yield casing, _bytes(f"{id_part}{request_part}ts:{ts};")


def _bytes(text: str) -> bytes:
    try:
        # Undoes the server's decoding of header bytes that were no UTF-8.
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
