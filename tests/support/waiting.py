"""Waiting on conditions with a deadline, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[T]], *, what: str, seconds: float = 20.0) -> T:
    """The condition's first true value; AssertionError, naming `what`, when the deadline passes."""
    deadline = time.monotonic() + seconds
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {value!r}")
        await asyncio.sleep(0.02)


def until_sync(condition: Callable[[], T], *, what: str, seconds: float = 20.0) -> T:
    """The same for code without an event loop."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {value!r}")
        time.sleep(0.05)
