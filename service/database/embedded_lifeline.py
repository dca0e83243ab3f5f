"""Child processes that end when we end, however we end: also by `kill -9`, when no line of ours runs any more.

On Linux the kernel does it (`PR_SET_PDEATHSIG`). Elsewhere a small watcher process holds one end of a pipe whose other
end is ours: it reads the end of file the moment we are gone, and sends the signal.
"""

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Final, TypeVar

T = TypeVar("T")

# What a tied process gets when we are gone. Postgres: fast shutdown. initdb: removes what it made.
FAREWELL: Final = signal.SIGINT
KERNEL_TIES: bool = sys.platform == "linux"

_PR_SET_PDEATHSIG: Final = 1
_STOOD_DOWN: Final = b"-"

# Reads process ids, and `-` when the last one has ended in order. At the end of file, nobody is left to stop it but us.
_WATCHER: Final = f"""
import os, signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
told = b""
while chunk := os.read(0, 4096):
    told += chunk
last = told.split()[-1:]
if last and last != [{_STOOD_DOWN!r}]:
    try:
        os.kill(int(last[0]), {int(FAREWELL)})
    except ProcessLookupError:
        pass
"""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Whom a server runs as when we are root, because PostgreSQL refuses to be root."""

    name: str
    uid: int
    gid: int


class TiedProcess:
    """A running child that gets `FAREWELL` if this process ends first. Call `ended` after it has ended."""

    def __init__(self, process: "subprocess.Popen[bytes]", watcher: "_Watcher | None") -> None:
        self._process = process
        self._watcher = watcher

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_seconds)

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens if it has ended."""
        self._process.send_signal(number)

    def ended(self) -> None:
        """Let go of a child that has ended, so that nobody signals a stranger who got its number."""
        self._process.wait()
        if self._watcher is not None:
            self._watcher.stand_down()
            self._watcher = None


def start_tied(
    command: Sequence[str],
    *,
    user: ServerUser | None,
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    pass_fds: Sequence[int] = (),
) -> TiedProcess:
    """Start `command` in a session of its own (a Ctrl-C is for us, who then stop it in order), tied to our life.

    May be called from any thread: the kernel ties a child to the *thread* that made it, so all are made by one
    thread that lives as long as the process.
    """
    watcher = None if KERNEL_TIES else _Watcher()
    tie = _kernel_tie() if watcher is None else watcher.tie

    def fork() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=dict(environment),
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
            start_new_session=True,
            # Runs in the child after it became `user`, which is when the tie must be made: changing user undoes it.
            preexec_fn=tie,  # noqa: PLW1509 - one system call, nothing that could meet another thread's lock
            pass_fds=pass_fds,
        )

    try:
        process = in_lasting_thread(fork)
    except BaseException:
        if watcher is not None:
            watcher.stand_down()
        raise
    return TiedProcess(process, watcher)


def _kernel_tie() -> Callable[[], None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    us = os.getpid()

    def tie() -> None:
        failed = prctl(_PR_SET_PDEATHSIG, int(FAREWELL), 0, 0, 0)
        if failed or os.getppid() != us:  # we died before the tie was made
            os._exit(127)

    return tie


class _Watcher:
    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _WATCHER],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)

    def tie(self) -> None:
        # In the child, before it becomes another program: from then on there is no moment that the watcher misses.
        os.write(self._writer, b"%d\n" % os.getpid())

    def stand_down(self) -> None:
        os.write(self._writer, _STOOD_DOWN + b"\n")
        os.close(self._writer)
        self._process.wait()


class _LastingThread:
    """A thread that runs what it is given, one after the other, until the process ends."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.process_id = os.getpid()
        threading.Thread(target=self._run, name="child processes", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._tasks.get()()

    def call(self, function: Callable[[], T]) -> T:
        future: Future[T] = Future()

        def task() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._tasks.put(task)
        return future.result()


_lasting_thread: _LastingThread | None = None
_lasting_thread_lock = threading.Lock()


def in_lasting_thread(function: Callable[[], T]) -> T:
    """Run `function` in the thread that lives as long as this process, and return its result."""
    global _lasting_thread  # noqa: PLW0603 - there is one such thread per process by nature
    with _lasting_thread_lock:
        if _lasting_thread is None or _lasting_thread.process_id != os.getpid():
            _lasting_thread = _LastingThread()
    return _lasting_thread.call(function)
