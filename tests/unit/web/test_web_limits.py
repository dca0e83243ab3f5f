"""How fast one key may command: a burst of two seconds' worth, then its rate, and nobody else's."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web.errors import TooManyCommands
from service.web.keys import ApiKey
from service.web.limits import CommandLimits

KEY = ApiKey("till", "ab" * 32, frozenset({"money"}), 5.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(limits: CommandLimits, key: ApiKey, times: int) -> int:
    """How many of so many commands go through."""
    count = 0
    for _ in range(times):
        try:
            limits.take(key)
        except TooManyCommands:
            continue
        count += 1
    return count


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limits = CommandLimits(clock)
    assert taken(limits, KEY, 50) == 10
    clock.now = 1.0
    assert taken(limits, KEY, 50) == 5
    clock.now = 100.0
    assert taken(limits, KEY, 50) == 10


def test_one_key_does_not_spend_anothers() -> None:
    limits = CommandLimits(Clock())
    assert taken(limits, KEY, 50) == 10
    assert taken(limits, replace(KEY, name="other", sha256="cd" * 32), 50) == 10


@pytest.mark.parametrize(("rate", "seconds"), [(0.25, "4"), (5.0, "1"), (0.001, "1000")])
def test_the_refusal_says_when_there_is_room_again(rate: float, seconds: str) -> None:
    clock, key = Clock(), replace(KEY, commands_per_second=rate)
    limits = CommandLimits(clock)
    taken(limits, key, 100)
    with pytest.raises(TooManyCommands) as caught:
        limits.take(key)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, seconds)
    clock.now += float(seconds)
    limits.take(key)


def test_a_rate_that_is_changed_in_the_file_counts_at_once() -> None:
    clock = Clock()
    limits = CommandLimits(clock)
    assert taken(limits, KEY, 50) == 10
    clock.now = 1.0
    assert taken(limits, replace(KEY, commands_per_second=100.0), 500) == 100


@given(
    rate=st.floats(0.01, 1000, allow_nan=False),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30)), max_size=30),
)
def test_never_more_than_the_burst_and_the_rate_allow(rate: float, steps: list[tuple[float, int]]) -> None:
    clock, key = Clock(), replace(KEY, commands_per_second=rate)
    limits = CommandLimits(clock)
    count = 0
    for pause, times in steps:
        clock.now += pause
        count += taken(limits, key, times)
        assert count <= max(1.0, 2 * rate) + clock.now * rate + 1e-6
