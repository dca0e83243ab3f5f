"""The README's sale, as its reader does it: its own lines, run by a shell against the running demo."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_demo import Running, start

__all__ = ["start"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="as the demo's own tests"),
]

ROOT = Path(__file__).parents[2]
UNTIL_PAID = 'for _ in $(seq 200); do ask GET "/api/v1/orders/$ORDER" - | grep -q processed && break; sleep 0.1; done'


def blocks() -> list[str]:
    text = (ROOT / "README.md").read_text()
    sale = text.partition("## A sale, from create to partial refund")[2].partition("## What it guarantees")[0]
    return re.findall(r"```sh\n(.*?)```", sale, re.DOTALL)


def test_the_sale_of_the_readme(start: Callable[..., Running], tmp_path: Path) -> None:
    demo = start("--orders", "40")
    demo.await_line("Still running")
    environment_file = tmp_path / "data" / "demo" / "environment.sh"
    by_curl, by_command, legacy = blocks()
    by_curl = by_curl.replace("~/.local/share/cuadre/demo/environment.sh", shlex.quote(str(environment_file)))
    # A reader takes a moment where the README says so; a shell does not.
    look = '\nask GET "/api/v1/orders/$ORDER" -'
    by_curl = by_curl.replace(look, f"\n{UNTIL_PAID}{look}", 1)
    listed = 'ask GET "/api/v1/orders?type=legacy_qr" -'
    patience = f"for _ in $(seq 300); do {listed} | grep -q processed && break; sleep 0.1; done"
    legacy = legacy.replace(listed, f"{patience}\n{listed}")

    told = _shell(tmp_path, by_curl + by_command + legacy)

    assert told.count('"status": "processed"') + told.count('"status":"processed"') >= 2, told
    assert re.search(r'"order":\s*{"id":\s*"ORD', told), "the creation answers with the order"
    assert "exceeds_left" in told, "the third refund is refused"
    assert re.search(r"status +done", told), "the command line's refund is done"
    assert '"MO' in told
    assert "legacy_qr" in told


def _shell(folder: Path, script: str) -> str:
    command = str(Path(sys.executable).parent / "cuadre")
    ran = subprocess.run(
        ["sh", "-eu", "-c", script.replace(".venv/bin/cuadre", shlex.quote(command))],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("CUADRE_")},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    _no_errors(ran.stderr)
    return ran.stdout


def _no_errors(text: Any) -> None:
    assert "Traceback" not in text
