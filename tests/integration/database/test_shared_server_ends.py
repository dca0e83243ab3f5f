"""The server of a test run does not outlive the run, not even one that is killed."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.database.conditions import is_running, wait_until
from tests.shared_postgres import ROOT

TEST = """
import os, pathlib, threading

def test_that_does_not_end(database_dsn):
    here = pathlib.Path(__file__).parent
    (here / f"dsn.{os.getpid()}.unfinished").write_text(database_dsn)
    (here / f"dsn.{os.getpid()}.unfinished").rename(here / f"dsn.{os.getpid()}")
    threading.Event().wait()

def test_that_does_not_end_either(database_dsn):
    test_that_does_not_end(database_dsn)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_kill_9_of_pytest(tmp_path: Path, workers: int) -> None:
    (tmp_path / "test_it.py").write_text(TEST, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n", encoding="utf-8")
    options = ["-p", "tests.conftest", "-p", "no:randomly", f"--basetemp={tmp_path / 'base'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, f"-n{workers}", "test_it.py"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = threading.Thread(target=run.communicate)
    try:
        wait_until(lambda: len(told(tmp_path)) == max(workers, 1) or run.poll() is not None, "its tests run")
        dsns = told(tmp_path)
        hosts = {parse_qs(urlsplit(dsn).query)["host"][0] for dsn in dsns}
        assert len(hosts) == 1, "all workers share one server"
        assert len(set(dsns)) == len(dsns), "each test has a database of its own"
        (pid_file,) = (tmp_path / "base").rglob("postmaster.pid")
        pid = int(pid_file.read_text(encoding="ascii").split()[0])
        assert is_running(pid)
    finally:
        run.kill()
        said.start()
    wait_until(lambda: not is_running(pid), "the server has ended")
    said.join()


def told(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in folder.glob("dsn.*") if path.suffix != ".unfinished"]
