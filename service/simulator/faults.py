"""What shall go wrong: settings per API operation and for notifications, and the draws that decide who is hit."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from . import not_yet
from .draws import Draws
from .signing import SIGN_VARIANTS
from .synonyms import API_FAULT, NOTIFICATION_FAULTS, by_main_names

LEGACY_OPERATIONS = (
    "legacy_create",
    "legacy_get",
    "legacy_delete",
    "merchant_order",
    "merchant_order_search",
    "payment",
    "payment_search",
    "payment_refund",
    "payment_refunds",
)
OPERATIONS = ("get_order", "search", "me", "create", "refund", "cancel", *LEGACY_OPERATIONS, "*")
BODIES = (
    "garbage",
    "html",
    "empty",
    "array",
    "truncated",
    "cut",
    "foreign",
    "stale",
    "oversized",
    "hang",
    "disconnect",
)


@dataclass(frozen=True, slots=True)
class ApiFault:
    """One thing that goes wrong with calls of one operation. Latency in milliseconds, drawn from a range."""

    status: int | None = None
    rate: float = 1.0
    count: int | None = None
    latency_ms: tuple[int, int] = (0, 0)
    order_id: str | None = None
    retry_after: str | None = None
    retry_after_date: int | None = None
    code: str | None = None
    message: str | None = None
    body: str | None = None
    size_bytes: int = 16 * 1024 * 1024
    when: str = "before"

    @property
    def answers(self) -> bool:
        """Whether it changes the answer, not only its time."""
        return self.status is not None or self.body is not None


@dataclass(frozen=True, slots=True)
class NotificationFaults:
    """What goes wrong with deliveries. Rates 0..1; `sign` maps a variant to its share, the rest is signed lowercase."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    legacy: float = 0.0
    delay_ms: int = 0
    duplicate_gap_ms: int = 2000
    reorder_hold_ms: int = 2000
    sign: Mapping[str, float] = field(default_factory=dict)
    clock_skew_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Effect:
    """What one call suffers: a wait, and the fault that decides its answer."""

    latency_seconds: float = 0.0
    fault: ApiFault | None = None


class FaultPlan:
    """The faults in force. Draws are keyed by operation, subject and how often that subject was there before."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._api: dict[str, list[ApiFault]] = {}
        self._times: Counter[tuple[str, str]] = Counter()
        self._left: dict[tuple[str, int], int] = {}
        self.notification = NotificationFaults()
        self.indexing_lag_seconds = 0.0
        self.not_yet = not_yet.NotYet(draws)

    def reset(self) -> None:
        """Nothing goes wrong any more. What was counted stays counted, so that later draws are new ones."""
        self._api.clear()
        self._left.clear()
        self.not_yet.reset()
        self.notification = NotificationFaults()
        self.indexing_lag_seconds = 0.0

    def forget(self) -> None:
        """As `reset`, and what was counted is forgotten too."""
        self.reset()
        self._times.clear()

    def configure(self, body: Mapping[str, Any]) -> None:
        """Apply the body of `POST /_sim/faults`, wholly or (on `ValueError`) not at all."""
        api: dict[str, list[ApiFault]] = {}
        notification: NotificationFaults | None = None
        lag: float | None = None
        too_soon = not_yet.read(body.get("not_yet") or {})
        for name, value in body.items():
            if name in OPERATIONS:
                entries = value if isinstance(value, list) else [value]
                api[name] = [_api_fault(name, entry) for entry in entries if entry]
            elif name in {"notification", "notifications"}:
                notification = _notification_faults(value or {})
            elif name == "indexing_lag_seconds":
                lag = _number(name, value or 0)
            elif name not in {"replace", "not_yet"}:
                raise ValueError(f"unknown member {name!r}; expected one of {', '.join(OPERATIONS)}, notification")
        if not body or body.get("replace"):
            self.reset()
        for name, faults in api.items():
            self._set(name, faults)
        if "not_yet" in body:
            self.not_yet.set(too_soon)
        self.notification = notification or self.notification
        self.indexing_lag_seconds = self.indexing_lag_seconds if lag is None else lag

    def describe(self) -> dict[str, Any]:
        """What is in force, in the shape of `POST /_sim/faults`; `count` says what is left of it."""
        described: dict[str, Any] = {
            name: [
                _described(replace(fault, count=self._left.get((name, index), fault.count)))
                for index, fault in enumerate(faults)
            ]
            for name, faults in self._api.items()
        }
        described["notification"] = _described(self.notification)
        described["not_yet"] = self.not_yet.describe()
        described["indexing_lag_seconds"] = self.indexing_lag_seconds
        return described

    def decide(self, operation: str, subject: str, order_id: str | None = None) -> Effect:
        """What this call of `operation` about `subject` suffers."""
        if not self._api:
            return Effect()
        time = self._times[operation, subject]
        self._times[operation, subject] += 1
        latency = 0.0
        answer: ApiFault | None = None
        for name in (operation, "*"):
            for index, fault in enumerate(self._api.get(name, ())):
                if answer is not None and fault.answers:
                    continue
                if not self._hits(name, index, fault, (operation, subject, time), order_id):
                    continue
                low, high = fault.latency_ms
                span = self._draws.below(high - low + 1, "latency", name, index, operation, subject, time)
                latency += (low + span) / 1000
                if fault.answers:
                    answer = fault
        return Effect(latency, answer)

    def _hits(self, name: str, index: int, fault: ApiFault, about: tuple[object, ...], order_id: str | None) -> bool:
        if fault.order_id is not None and fault.order_id != order_id:
            return False
        left = self._left.get((name, index))
        if left == 0:
            return False
        if self._draws.fraction("fault", name, index, *about) >= fault.rate:
            return False
        if left is not None:
            self._left[name, index] = left - 1
        return True

    def _set(self, name: str, faults: list[ApiFault]) -> None:
        for key in [key for key in self._left if key[0] == name]:
            del self._left[key]
        self._api.pop(name, None)
        if faults:
            self._api[name] = faults
        for index, fault in enumerate(faults):
            if fault.count is not None:
                self._left[name, index] = fault.count


def _described(settings: Any) -> dict[str, Any]:
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def _number(name: str, value: Any, low: float | None = 0.0, high: float | None = None) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric:
        raise ValueError(f"{name} must be a number, not {value!r}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name} must be {f'in {low:g}..{high:g}' if high is not None else f'{low:g} or more'}")
    return float(value)


def _api_fault(operation: str, entry: Any) -> ApiFault:
    known = {item.name for item in fields(ApiFault)}
    entry = by_main_names(entry, API_FAULT) if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or entry.keys() - known:
        raise ValueError(f"{operation}: expected an object of {', '.join(sorted(known))}")
    values = {name: value for name, value in entry.items() if value is not None}
    if "rate" in values:
        _number("rate", values["rate"], 0, 1)
    for name, low, high in (("status", 200, 599), ("count", 0, None), ("size_bytes", 1, 2**28)):
        if name in values:
            values[name] = int(_number(name, values[name], low, high))
    if "retry_after_date" in values:
        values["retry_after_date"] = int(_number("retry_after_date", values["retry_after_date"], None))
    if "retry_after" in values:
        values["retry_after"] = str(values["retry_after"])
    if "latency_ms" in values:
        values["latency_ms"] = _range("latency_ms", values["latency_ms"])
    if values.get("body", BODIES[0]) not in BODIES:
        raise ValueError(f"body must be one of {', '.join(BODIES)}")
    if values.get("when", "before") not in {"before", "after"}:
        raise ValueError("when must be before or after")
    return ApiFault(**values)


def _range(name: str, value: Any) -> tuple[int, int]:
    low, high = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    bounds = int(_number(name, low)), int(_number(name, high))
    if bounds[1] < bounds[0]:
        raise ValueError(f"{name} must be a number of milliseconds or [min, max]")
    return bounds


def _notification_faults(body: Any) -> NotificationFaults:
    known = {item.name for item in fields(NotificationFaults)}
    body = by_main_names(body, NOTIFICATION_FAULTS) if isinstance(body, dict) else body
    if not isinstance(body, dict) or body.keys() - known:
        raise ValueError(f"notification: expected an object of {', '.join(sorted(known))}")
    values = {name: value for name, value in body.items() if value is not None}
    for name in ("drop", "duplicate", "reorder", "legacy"):
        if name in values:
            # All of them or none of them: true is the rate 1.
            rate = float(values[name]) if isinstance(values[name], bool) else values[name]
            values[name] = _number(name, rate, 0, 1)
    for name in ("delay_ms", "duplicate_gap_ms", "reorder_hold_ms"):
        if name in values:
            values[name] = int(_number(name, values[name]))
    if "clock_skew_seconds" in values:
        _number("clock_skew_seconds", values["clock_skew_seconds"], None)
    if "sign" in values:
        values["sign"] = _shares(values["sign"])
    return NotificationFaults(**values)


def _shares(sign: Any) -> dict[str, float]:
    shares = {sign: 1.0} if isinstance(sign, str) else sign
    if not isinstance(shares, dict) or not shares.keys() <= set(SIGN_VARIANTS):
        raise ValueError(f"sign must be one of {', '.join(SIGN_VARIANTS)}, or an object of shares")
    for name, share in shares.items():
        _number(f"sign.{name}", share, 0, 1)
    return shares
