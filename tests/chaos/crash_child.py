"""A process that forks one child per trial, warm and without threads; each child may die at a statement's boundary.

`python -m tests.chaos.crash_child` reads one JSON task a line, `{"scenario", "trials", "crash_at", ...}`, and answers
each with `{"code"}`: 137 where the child died at its boundary, 0 where the scenario came to its end before it.

A boundary lies before the first statement and after each one, before anybody hears of its end; BEGIN and COMMIT are
statements. Between the end of one and the begin of the next nothing is changed anywhere: providers are only read.
"""

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpg.connection import Connection

from tests.chaos.crash_scenarios import SCENARIOS

CRASHED = 137
TRIAL_SECONDS = 30


class Observer(Connection):
    """A connection that looks on: its statements are nobody's boundary."""


class Boundaries:
    """Counts boundaries of this process, and dies at the one it was told."""

    def __init__(self, crash_at: int | None) -> None:
        self._crash_at = crash_at
        self._passed = 0

    def step(self) -> None:
        self._passed += 1
        if self._passed == self._crash_at:
            os._exit(CRASHED)

    def watch(self) -> None:
        """From here on."""
        asyncpg: Any = Connection  # what its types say nothing of
        with_arguments, plain, many = asyncpg._execute, asyncpg.execute, asyncpg._executemany

        async def _execute(connection: Any, *arguments: Any, **named: Any) -> Any:
            return await self._around(connection, lambda: with_arguments(connection, *arguments, **named))

        async def _executemany(connection: Any, *arguments: Any, **named: Any) -> Any:
            return await self._around(connection, lambda: many(connection, *arguments, **named))

        async def execute(connection: Any, query: str, *arguments: Any, **named: Any) -> Any:
            if arguments:  # goes through the first one
                return await plain(connection, query, *arguments, **named)
            return await self._around(connection, lambda: plain(connection, query, **named))

        asyncpg._execute, asyncpg.execute, asyncpg._executemany = _execute, execute, _executemany

    async def _around(self, connection: Any, statement: Callable[[], Awaitable[Any]]) -> Any:
        if type(connection) is Observer:  # `isinstance` says yes to every connection of asyncpg
            return await statement()
        if self._passed == 0:
            self.step()
        answer = await statement()
        self.step()
        return answer


async def _play(task: dict[str, Any]) -> None:
    Boundaries(task["crash_at"]).watch()
    await asyncio.gather(*(SCENARIOS[task["scenario"]](task, trial, Observer) for trial in task["trials"]))


def _child(task: dict[str, Any]) -> None:
    code = 1
    try:
        signal.alarm(TRIAL_SECONDS)
        os.dup2(2, 1)  # log lines are no answers
        asyncio.run(_play(task))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Until the end of the input."""
    for line in sys.stdin:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _child(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
