"""What is seen while the demo runs: two bars on a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

PLAIN_STEPS = 4


class Show:
    """Progress of one day of orders: how many lived to the end at the provider, how many are stored here."""

    def __init__(self, console: Console, orders: int) -> None:
        self._console = console
        self._orders = orders
        self._progress: Progress | None = None
        self._next_line = 1
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
            )
            self._sent = self._progress.add_task("Orders at the provider", total=orders)
            self._stored = self._progress.add_task("Orders stored here", total=orders)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def update(self, sent: int, stored: int) -> None:
        """How far it is now."""
        if self._progress is not None:
            self._progress.update(self._sent, completed=sent)
            self._progress.update(self._stored, completed=stored)
        elif sent * PLAIN_STEPS >= self._next_line * self._orders:
            self._next_line = sent * PLAIN_STEPS // self._orders + 1
            self.say(f"{sent} of {self._orders} orders through their lives at the provider, {stored} stored here")
