"""How far long work is: a bar on a terminal, a plain line now and then elsewhere. On standard error, never a result."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from service.cli.output import note

LINE_EVERY_SECONDS = 10.0


class Steps:
    """What `progress` gives: tell it how much more is done."""

    def __init__(self, show: Callable[[int], None]) -> None:
        self._show = show
        self.done = 0

    def advance(self, number: int = 1) -> None:
        """`number` more are done."""
        self.done += number
        self._show(self.done)


@contextmanager
def progress(total: int | None, what: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Steps]:
    """Shows how many of `total` (None: nobody knows) are done until the block ends. `what`: `orders compared`.

    On a terminal a bar, which disappears at the end; elsewhere a line every 10 s, so short work prints none.
    """
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(what, total=total)
            yield Steps(lambda done: bar.update(task, completed=done))
        return
    next_line = clock() + LINE_EVERY_SECONDS

    def line(done: int) -> None:
        nonlocal next_line
        if (now := clock()) >= next_line:
            next_line = now + LINE_EVERY_SECONDS
            note(f"{what}: {done}" if total is None else f"{what}: {done} of {total}")

    yield Steps(line)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=True,
        # What others print stays theirs: the result goes to standard output untouched.
        redirect_stdout=False,
        redirect_stderr=False,
    )
