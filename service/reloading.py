"""A file that is read again while the service runs: accounts, API keys.

Mounted secrets change under us (Kubernetes swaps a symlink, an editor renames a new file over the old one), so the
file is simply read again and what it *says* is compared: no time stamp, no inode, no missed change.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

_log = structlog.get_logger(__name__)


T = TypeVar("T")


class UnusableFileError(Exception):
    """A file does not say what it should. `problems` has one line each: the place in the file, and what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Reloading(Generic[T]):
    """The last good content of a file, and the watching of it.

    `read` reads and checks the whole file and raises `UnusableFileError`; what it returns is compared with `==`.
    The constructor reads once, so a broken file stops a start; later on it is reported, once per distinct problem,
    and the last good content stays.
    """

    def __init__(
        self, read: Callable[[], T], *, name: str, report: Callable[[str, list[str]], None] | None = None
    ) -> None:
        self._read = read
        self._name = name
        self._report = report or _report
        self._reported: list[str] = []
        self._asked = asyncio.Event()
        self.current: T = read()

    def reload(self) -> bool:
        """Reads the file again; True when what it says changed. Never raises: a broken file changes nothing."""
        return self._take(*self._attempt())

    def ask(self) -> None:
        """Have a running `watch` look at once (SIGHUP). Call it on the event loop's thread."""
        self._asked.set()

    async def watch(self, on_change: Callable[[T], Awaitable[None] | None], every_seconds: float = 5.0) -> None:
        """Looks every `every_seconds` until cancelled, and calls (and awaits) `on_change` after each change."""
        while True:
            try:
                async with asyncio.timeout(every_seconds):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            # A hanging network mount must not stop the loop.
            content, problems = await asyncio.to_thread(self._attempt)
            if self._take(content, problems):
                result = on_change(self.current)
                if result is not None:
                    await result

    def _attempt(self) -> tuple[T | None, list[str]]:
        try:
            return self._read(), []
        except UnusableFileError as error:
            return None, error.problems

    def _take(self, content: T | None, problems: list[str]) -> bool:
        if problems and problems != self._reported:
            self._report(self._name, problems)
        self._reported = problems
        if content is None or content == self.current:
            return False
        self.current = content
        return True


def _report(name: str, problems: list[str]) -> None:
    _log.error("file_unusable", file=name, problems=problems, hint="the last good one stays in use; correct the file")
