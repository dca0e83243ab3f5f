"""What became of the notifications: the log of attempts, and per order whether word got through. Pure state."""

from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .clock import format_time
from .notices import Notice


@dataclass(slots=True)
class Tally:
    """How one order's notifications fared. `version` is the last one announced, `delivered_version` the last heard."""

    notifications: int = 0
    attempts: int = 0
    dropped: int = 0
    delivered: bool = False
    version: int = 0
    delivered_version: int = 0

    def as_json(self) -> dict[str, Any]:
        """The entry of `deliveries` in `GET /_sim/orders`."""
        return {
            "delivered": self.delivered,
            "delivered_version": self.delivered_version,
            "version": self.version,
            "notifications": self.notifications,
            "attempts": self.attempts,
            "dropped": self.dropped,
        }


NO_TALLY = Tally()


@dataclass(slots=True)
class Delivery:
    """One message on its way: the notice, how it is signed, its place in the log, and how its last attempt ended."""

    number: int
    notice: Notice
    request_id: str
    sign: str
    duplicate: bool = False
    retry: bool = True
    clock_skew_seconds: float = 0.0
    state: str = ""
    attempt: int = 0
    outcome: str | None = None
    status: int | None = None


class DeliveryLog:
    """A bounded ring of attempts and a tally per order."""

    def __init__(self, size: int) -> None:
        self.entries: deque[dict[str, Any]] = deque(maxlen=size)
        self.tallies: dict[str, Tally] = {}
        self.total = 0
        self.states: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget all. The states are those of deliveries under way, which end by themselves."""
        self.entries.clear()
        self.tallies.clear()
        self.total = 0

    def announced(self, notice: Notice) -> None:
        """Count a new notification."""
        if notice.order_id is not None:
            tally = self.tallies.setdefault(notice.order_id, Tally())
            tally.notifications += 1
            tally.version = max(tally.version, notice.version or 0)

    def ended(self, delivery: Delivery, outcome: str, status: int | None, at: datetime) -> None:
        """Write down how one attempt ended (`dropped` and `no_webhook_url` are no attempts)."""
        notice = delivery.notice
        delivery.outcome, delivery.status = outcome, status
        self.total += 1
        self.entries.append(
            {
                "notification": delivery.number,
                "order_id": notice.order_id,
                "topic": notice.topic,
                "action": notice.action,
                "version": notice.version,
                "attempt": delivery.attempt,
                "at": format_time(at),
                "outcome": outcome,
                "status": status,
                "sign": delivery.sign,
                "duplicate": delivery.duplicate,
            }
        )
        if notice.order_id is None:
            return
        tally = self.tallies.setdefault(notice.order_id, Tally())
        tally.dropped += outcome == "dropped"
        tally.attempts += outcome not in {"dropped", "no_webhook_url"}
        if outcome == "delivered":
            tally.delivered = True
            tally.delivered_version = max(tally.delivered_version, notice.version or 0)
