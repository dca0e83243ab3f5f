"""Refusals that are over after a while: too soon after the creation or the payment (orders fact sheet, §8.2). Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .draws import Draws

STATUS_OF_CODE: Mapping[str, int] = {
    "processor_communication_error": 409,
    "post_processing_operation_pending": 409,
    "unprocessable_entity": 422,
    "order_payment_not_yet_enabled_for_refund": 425,
}
USUAL: Mapping[str, str] = {"cancel": "processor_communication_error", "refund": "unprocessable_entity"}


@dataclass(frozen=True, slots=True)
class _Setting:
    codes: tuple[str, ...]
    rate: float = 1.0
    seconds: float | None = None
    times: int | None = None


class NotYet:
    """The switch: per operation a code (or several, drawn), for some simulated seconds or some number of calls."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._settings: dict[str, _Setting] = {}
        self._refused: Counter[tuple[str, str]] = Counter()

    def reset(self) -> None:
        """Nothing is too soon."""
        self._settings.clear()
        self._refused.clear()

    def set(self, settings: dict[str, _Setting]) -> None:
        """Put what `read` made in force."""
        self.reset()
        self._settings = settings

    def describe(self) -> dict[str, Any]:
        """What is in force, as it is set."""
        return {
            name: {"code": list(one.codes), "rate": one.rate, "seconds": one.seconds, "times": one.times}
            for name, one in self._settings.items()
        }

    def refusal(self, operation: str, key: str, since: datetime | None, now: datetime) -> tuple[int, str] | None:
        """Status and code when this operation comes too soon for the order `key`."""
        setting = self._settings.get(operation)
        if setting is None or self._draws.fraction("not-yet", operation, key) >= setting.rate:
            return None
        if setting.times is not None and self._refused[operation, key] >= setting.times:
            return None
        if setting.seconds is not None and (since is None or now - since >= timedelta(seconds=setting.seconds)):
            return None
        nth = self._refused[operation, key]
        self._refused[operation, key] += 1
        code = self._draws.pick(setting.codes, "not-yet-code", operation, key, nth)
        return STATUS_OF_CODE[code], code


def read(body: Any) -> dict[str, _Setting]:
    """The member `not_yet` of `POST /_sim/faults`. Raises `ValueError`."""
    if not isinstance(body, dict) or body.keys() - USUAL.keys():
        raise ValueError("not_yet: expected an object of cancel, refund")
    return {name: _setting(name, value) for name, value in body.items() if value is not None}


def _setting(operation: str, value: Any) -> _Setting:
    if not isinstance(value, dict) or value.keys() - {"code", "rate", "seconds", "times"}:
        raise ValueError(f"not_yet.{operation}: expected an object of code, rate, seconds, times")
    given = value.get("code") or USUAL[operation]
    codes = tuple(given) if isinstance(given, list) else (given,)
    if not codes or not set(codes) <= STATUS_OF_CODE.keys():
        raise ValueError(f"not_yet.{operation}: code must be one of {', '.join(STATUS_OF_CODE)}")
    numbers = {name: value.get(name) for name in ("rate", "seconds", "times")}
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float) or number < 0):
            raise ValueError(f"not_yet.{operation}: {name} must be a number of 0 or more")
    seconds, times = numbers["seconds"], numbers["times"]
    if seconds is None and times is None:
        seconds = 5.0
    return _Setting(
        codes,
        rate=1.0 if numbers["rate"] is None else float(numbers["rate"]),
        seconds=None if seconds is None else float(seconds),
        times=None if times is None else int(times),
    )
