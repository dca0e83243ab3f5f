"""`cuadre demo` as a newcomer runs it: it adds up, twice on one folder, and leaves nothing running however it ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.cli.demo.household import Child
from service.cli.failures import CommandError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes that are left by /proc"),
]

DEADLINE_SECONDS = 60.0


class Running:
    """A demo in a process of its own; its output is collected while it runs."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CUADRE_")}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "demo", "--data", str(data_dir), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.closing(self.process.stdout) as out:
            self.lines.extend(out)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def await_line(self, part: str) -> None:
        wait_until(lambda: part in self.output or self.process.poll() is not None, f"the line {part!r}")
        assert part in self.output, self.output

    def end(self, seconds: float = DEADLINE_SECONDS) -> int:
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts demos on one data folder; none outlives the test."""
    started: list[Running] = []

    def start_one(*arguments: str) -> Running:
        started.append(Running(tmp_path / "data", *arguments))
        return started[-1]

    yield start_one
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGINT)
            running.end()


def living(data_dir: Path) -> list[str]:
    """Processes that belong to a demo on `data_dir`, by their working folder, command or environment."""
    found = []
    mark = str(data_dir).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            command = (entry / "cmdline").read_bytes()
            place = os.fsencode((entry / "cwd").readlink())
            if mark in command or place.startswith(mark) or mark in (entry / "environ").read_bytes():
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def test_it_adds_up_twice_on_one_data_folder(start: Callable[..., Running], tmp_path: Path) -> None:
    for _ in range(2):
        demo = start("--once", "--orders", "60")
        assert demo.end() == 0, demo.output
        assert "Everything adds up" in demo.output
        assert "First order reconciled" in demo.output
        assert "Traceback" not in demo.output
        assert living(tmp_path / "data") == []


def test_ctrl_c_in_the_middle_leaves_nothing_running(start: Callable[..., Running], tmp_path: Path) -> None:
    demo = start("--once", "--orders", "400")
    demo.await_line("First order reconciled")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 130, demo.output
    assert demo.lines[-1] == "Stopping.\n"
    assert "Traceback" not in demo.output
    assert living(tmp_path / "data") == []


def test_ctrl_c_while_it_starts_leaves_nothing_running(start: Callable[..., Running], tmp_path: Path) -> None:
    demo = start("--orders", "60")
    demo.await_line("Starting PostgreSQL")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0, demo.output
    assert "Traceback" not in demo.output
    wait_until(lambda: living(tmp_path / "data") == [], "all processes to end")


def test_it_goes_on_after_the_report_until_ctrl_c(start: Callable[..., Running], tmp_path: Path) -> None:
    demo = start("--orders", "30")
    demo.await_line("Still running")
    assert "Everything adds up" in demo.output
    assert demo.process.poll() is None
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0, demo.output
    assert living(tmp_path / "data") == []


def test_kill_9_leaves_nothing_running_and_the_data_usable(start: Callable[..., Running], tmp_path: Path) -> None:
    demo = start("--once", "--orders", "400")
    demo.await_line("First order reconciled")
    assert len(living(tmp_path / "data")) > 3
    demo.process.kill()
    assert demo.end() == -signal.SIGKILL
    wait_until(lambda: living(tmp_path / "data") == [], "the demo's children to end")
    again = start("--once", "--orders", "20")
    assert again.end() == 0, again.output


def test_a_second_demo_on_the_folder_is_told_so(start: Callable[..., Running]) -> None:
    first = start("--once", "--orders", "400")
    first.await_line("Ready after")
    second = start("--once", "--orders", "20")
    assert second.end() == 1
    assert "is in use" in second.lines[-1]
    assert first.process.poll() is None


def test_a_child_that_ends_is_one_line_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    child = Child("the service", ["service", "serve", "--no-such-option"], dict(os.environ), log)
    wait_until(lambda: "no-such-option" in log.read_text(), "its complaint")

    def told() -> str | None:
        try:
            child.check()
        except CommandError as error:
            return str(error)
        return None

    try:
        wait_until(told, "its end")
        line = told() or ""
        assert "the service ended with 2" in line
        assert str(log) in line
        assert "\n" not in line
    finally:
        child.stop()


WRONGLY_PLANNED = """
import sys
from pathlib import Path
from service.cli.demo import plants, programme, run_demo

wrong = plants._one("paid for less, and called a failed refund", "qr", "refund_failed", "order",
                    plants.PAY, plants._patch(total_amount="13499.00"), plants.PROCESSED)
programme.PLANTS = (wrong,)
sys.exit(run_demo(once=True, orders=8, data_dir=Path(sys.argv[1])))
"""


def test_what_is_not_as_planned_ends_with_3(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRONGLY_PLANNED, str(tmp_path / "data")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "planted discrepancies not found 1" in ended.stdout
    assert "discrepancies that nobody planted 1" in ended.stdout
    assert "Missing: refund_failed of ORD" in ended.stdout
    assert "Unexpected: paid_total_mismatch of ORD" in ended.stdout
