"""`X-Idempotency-Key`: the same key and request give the first answer again (orders fact sheet, §1.1)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice

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
    """Keys of 24 simulated hours, per seller.

    What took effect is kept: successes, and the 402 of an order that was made and declined. A refused request may come
    again, also as another one.
    """

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
            self._kept.pop((seller, key), None)
            self._kept[seller, key] = _Kept(fingerprint, now)
            self._forget_old(now)
            return None
        if kept.fingerprint != fingerprint:
            raise KeyReused
        if kept.answer is None:
            raise KeyInUse
        return kept.answer

    def end(self, seller: str, key: str, status: int, body: bytes) -> None:
        """Keep the answer of a request that took effect; let the key go when it did not."""
        kept = self._kept.get((seller, key))
        if kept is None:
            return
        if 200 <= status < 300 or status == 402:
            kept.answer = status, body
        else:
            del self._kept[seller, key]

    def _forget_old(self, now: datetime) -> None:
        """Let go of keys beyond their time, so that a long run does not grow; the oldest come first."""
        for name, kept in list(islice(self._kept.items(), 2)):
            if now - kept.at >= RETENTION and kept.answer is not None:
                del self._kept[name]
