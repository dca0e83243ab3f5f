"""`X-Idempotency-Key`: the same key and request give the first answer again (orders fact sheet, §1.1)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

RETENTION = timedelta(hours=24)
MAX_KEY_LENGTH = 128


@dataclass(slots=True)
class _Kept:
    fingerprint: bytes
    at: datetime
    answer: tuple[int, bytes] | None = None


class KeyReused(Exception):  # noqa: N818 - names what happened
    """The key belongs to another request: 409."""


class KeyInUse(Exception):  # noqa: N818 - names what happened
    """The first request with this key still runs: 423."""


class IdempotencyStore:
    """Keys of 24 simulated hours, per seller. Only successes are kept: a refused request may come again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}

    def reset(self) -> None:
        """Forget every key."""
        self._kept.clear()

    def begin(self, seller: str, key: str, request: bytes, now: datetime) -> tuple[int, bytes] | None:
        """The first answer (status, body) when there is one; `None` when this request may run.

        Raises `KeyReused` or `KeyInUse`.
        """
        fingerprint = sha256(request).digest()
        kept = self._kept.get((seller, key))
        if kept is None or now - kept.at >= RETENTION:
            self._kept[seller, key] = _Kept(fingerprint, now)
            return None
        if kept.fingerprint != fingerprint:
            raise KeyReused
        if kept.answer is None:
            raise KeyInUse
        return kept.answer

    def end(self, seller: str, key: str, status: int, body: bytes) -> None:
        """Keep the answer of a request that succeeded; let the key go when it did not."""
        kept = self._kept.get((seller, key))
        if kept is None:
            return
        if 200 <= status < 300:
            kept.answer = status, body
        else:
            del self._kept[seller, key]
