"""The image without a container engine: what the Dockerfile copies is enough to build the service from."""

import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEALTHCHECK = ROOT / "deploy/healthcheck.py"


def test_wheel_is_built_from_what_the_dockerfile_copies(tmp_path: Path) -> None:
    source, wheels = tmp_path / "src", tmp_path / "wheels"
    for line in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        *names, target = line.split()
        if target.startswith("/"):
            continue
        for name in names:
            place = source / target / Path(name).name if (ROOT / name).is_file() else source / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copy(ROOT / name, place)
            else:
                shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
    # The Dockerfile's own command; nothing is downloaded.
    command = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels), "."]
    assert " ".join(command[:-2]) in (ROOT / "Dockerfile").read_text()
    built = subprocess.run([sys.executable, *command], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = wheels.glob("cuadre-*.whl")
    with zipfile.ZipFile(wheel) as content:
        inside = set(content.namelist())
    migrations = {f"service/_migrations/{path.name}" for path in (ROOT / "migrations").glob("*.sql")}
    assert migrations
    assert migrations <= inside
    beside_the_code = {str(path.relative_to(ROOT)) for path in (ROOT / "service").rglob("*.sql")}
    assert beside_the_code <= inside
    assert not [name for name in inside if name.startswith(("tests/", "deploy/"))]


class Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet: pytest's output is the tests'."""


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The status of a health endpoint, and the port that it listens on."""
    handler = type("OneHealth", (Health,), {"status": request.param})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield request.param, server.server_port
        server.shutdown()
        thread.join()


def healthcheck(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, HEALTHCHECK],
        env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("host", [None, "0.0.0.0", "127.0.0.1"])
def test_healthcheck_follows_healthz(answering: tuple[int, int], host: str | None) -> None:
    status, port = answering
    result = healthcheck(CUADRE_INTERNAL_PORT=str(port), **({"CUADRE_INTERNAL_HOST": host} if host else {}))
    assert result.returncode == (0 if status == 200 else 1)
    assert result.stderr == ("" if status == 200 else "healthz answers 503\n")


@pytest.mark.parametrize("port", ["1", "none"])
def test_healthcheck_of_a_process_that_does_not_answer(port: str) -> None:
    result = healthcheck(CUADRE_INTERNAL_PORT=port)
    assert result.returncode == 1
    assert result.stderr.startswith(f"healthz does not answer on port {port}: ")
    assert result.stderr.count("\n") == 1
