"""`.ci/run` and `optional-tools.sh` with the programs that they call replaced: what they conclude and print last."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PASSED = "======================== 158 passed, 2 skipped in 32.77s ========================"
FAILED = "================== 1 failed, 157 passed in 92.70s (0:01:32) =================="


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def run_ci(tmp_path: Path, test: str, check: str) -> tuple[int, list[str]]:
    """The exit code and the lines of a run where `make test` and `make check` do as given."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    make = f'shift\necho "make $1 CI=$CI" >> calls\ncase $1 in test) {test} ;; check) {check} ;; esac'
    program(tmp_path / "bin", "make", make)
    result = subprocess.run(
        ["bash", ".ci/run"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["make optional-tools CI=true", "make test CI=true", "make check CI=true"]
    return result.returncode, result.stdout.splitlines()


@pytest.mark.parametrize(
    ("test", "check", "code", "last"),
    [
        (f"echo '{PASSED}'", "echo 'ok      lint'", 0, [PASSED]),
        (f"echo '{PASSED}'", "echo 'FAILED  lint: x'; exit 1", 1, ["failed: make check", PASSED]),
        (f"echo '{FAILED}'; exit 2", "echo 'ok      lint'", 1, ["failed: make test", FAILED]),
        ("echo 'ImportError'; exit 2", "echo 'ok      lint'", 1, ["failed: make test", "0 passed, 1 failed"]),
        ("echo 'nothing ran'", "echo 'ok      lint'", 1, ["0 passed, 1 failed"]),
        ("echo '157 passed in 3.10s'", "echo 'ok      lint'", 0, ["157 passed in 3.10s"]),
    ],
)
def test_ci_ends_with_the_tests_closing_line(tmp_path: Path, test: str, check: str, code: int, last: list[str]) -> None:
    returned, lines = run_ci(tmp_path, test, check)
    assert returned == code
    assert lines[-len(last) :] == last


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A tree with the script and a PATH without apt."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/optional-tools.sh", tmp_path / "deploy")
    (tmp_path / "bin").mkdir()
    for name in ("dirname", "cut", "tr", "id", "mktemp", "rm", "mkdir", "chown", "mv", "tar", "sh"):
        found = shutil.which(name)
        assert found
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def optional_tools(desk: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [desk / "bin/sh", "deploy/optional-tools.sh"],
        cwd=desk,
        env={"PATH": str(desk / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_there_is_no_apt_nothing_is_done(desk: Path) -> None:
    result = optional_tools(desk)
    assert result.returncode == 0
    told = "optional tools: nothing done, this is no Debian; checks that need promtool pgbouncer"
    assert result.stdout.startswith(told)
    assert not (desk / ".venv").exists()


def test_what_is_there_is_left_alone(desk: Path) -> None:
    program(desk / "bin", "apt-get", "exit 1")
    (desk / ".venv").mkdir()
    for name in ("promtool", "pgbouncer"):
        program(desk / ".venv/bin", name, "exit 0")
    result = optional_tools(desk)
    assert (result.returncode, result.stdout) == (0, "optional tools: all there\n")


def test_a_download_that_fails_says_what_to_do(desk: Path) -> None:
    program(desk / "bin", "apt-get", "exit 100")
    program(desk / "bin", "dpkg-deb", "exit 100")
    result = optional_tools(desk)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "optional tools: prometheus could not be downloaded; run 'apt-get update' as root and try again"
    )
    assert not (desk / ".venv/bin/promtool").exists()
