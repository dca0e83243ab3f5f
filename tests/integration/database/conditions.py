"""Waiting for what another process does: for its outcome, with a deadline, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Return when `condition` holds; fail with `what` if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


async def wait_until_async(condition: Callable[[], Awaitable[object]], what: str, seconds: float = 60) -> None:
    """The same for a condition that is awaited."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie, which only its parent can remove, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
