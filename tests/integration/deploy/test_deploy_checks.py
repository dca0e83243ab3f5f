"""The checks find what they are there for: each is shown a tree with a fault, and the contracts one of every kind."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TOOLS = Path(sys.executable).parent
PATH = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": PATH, "HOME": str(cwd), "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def check(tree: Path, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(["sh", "deploy/check.sh", *names], tree, **environment)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that passes: the checks and what they read, without the service."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    for name in ("Dockerfile", ".squawk.toml", ".hadolint.yaml", ".yamllint.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    return tmp_path


FAULTS = {
    "migrations": ("migrations/0999_fault.sql", "alter table cuadre.orders add column note text not null;\n"),
    "dockerfile": ("Dockerfile", "FROM python\nRUN cd /tmp && pip install aiohttp\n"),
    "shell": (".ci/run", "#!/usr/bin/env bash\nrm -rf $1/*\n"),
    "yaml": ("deploy/fault.yaml", "a: 1\na: 2\n"),
    "kubernetes": ("deploy/kubernetes/fault.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspecs: {}\n"),
    "dashboards": ("deploy/grafana/fault.json", '{"panels": [}\n'),
    "hosts": ("README.md", "Get it from " + "pyp" + "i.org.\n"),
    "paths": ("README.md", "It stands in " + "/wor" + "k/main.\n"),
    "lint": ("deploy/fault.py", "import os\n"),
    "format": ("deploy/fault.py", "x  =  1\n"),
    "spelling": ("README.md", "It recieves" + " notifications.\n"),  # codespell:ignore
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_check_passes_and_finds_its_fault(tree: Path, name: str) -> None:
    if name == "shell" and not shutil.which("shellcheck", path=PATH):
        pytest.skip("shellcheck has no package for this machine")
    if name == "dockerfile" and not shutil.which("hadolint", path=PATH):
        pytest.skip("hadolint has no package for this machine")
    before = check(tree, name)
    assert (before.returncode, before.stdout) == (0, f"ok      {name}\n")
    path, content = FAULTS[name]
    (tree / path).write_text(content)
    after = check(tree, name)
    assert after.returncode == 1
    first, *shown, last = after.stdout.splitlines()
    assert first.startswith(f"FAILED  {name}: ")
    assert shown
    assert last == "1 of 1 checks failed"


def test_all_run_though_one_fails(tree: Path) -> None:
    (tree / FAULTS["yaml"][0]).write_text(FAULTS["yaml"][1])
    result = check(tree, "yaml", "dashboards")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-2:] == ["ok      dashboards", "1 of 2 checks failed"]


def test_a_missing_tool_is_skipped_on_a_desk_and_fails_in_ci(tree: Path) -> None:
    here = {"PATH": "/usr/bin:/bin"}
    if shutil.which("promtool", path=here["PATH"]):
        pytest.skip("promtool is installed on this machine")
    at_a_desk, in_ci = check(tree, "alerts", **here), check(tree, "alerts", CI="true", **here)
    assert (at_a_desk.returncode, in_ci.returncode) == (0, 1)
    assert at_a_desk.stdout.startswith("skipped alerts: promtool is not installed")
    assert in_ci.stdout.startswith("FAILED  alerts: promtool is not installed")


def test_an_unknown_check_is_a_usage_error(tree: Path) -> None:
    result = check(tree, "nonsense")
    assert result.returncode == 2
    assert "there is no check nonsense; there are: format lint" in result.stderr


def forbidden_imports() -> list[tuple[str, str, list[str]]]:
    """Every contract but the layers: its name, one of the modules that it holds, and what that must not import."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    contracts = [config[section] for section in config.sections() if config[section].get("type") == "forbidden"]
    return [
        (contract["name"], source, contract["forbidden_modules"].split())
        for contract in contracts
        for source in contract["source_modules"].split()
    ]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The house with every named module there and empty."""
    text = (ROOT / ".importlinter").read_text()
    (tmp_path / ".importlinter").write_text(text)
    for module in {*re.findall(r"service\.[a-z_.]+", text), "service.reloading"}:
        path = tmp_path / module.replace(".", "/")
        path.mkdir(parents=True, exist_ok=True)
    for folder in [tmp_path / "service", *(one for one in (tmp_path / "service").rglob("*") if one.is_dir())]:
        (folder / "__init__.py").touch()
    return tmp_path


def lint_imports(house: Path) -> str:
    result = run([str(TOOLS / "lint-imports"), "--config", ".importlinter", "--no-cache"], house, NO_COLOR="1")
    assert "Contracts:" in result.stdout, result.stdout + result.stderr
    return result.stdout


def test_the_empty_house_keeps_its_contracts(house: Path) -> None:
    assert re.search(r"Contracts: \d+ kept, 0 broken", lint_imports(house))


@pytest.mark.parametrize(("name", "source", "forbidden"), forbidden_imports())
def test_each_forbidden_import_breaks_its_contract(house: Path, name: str, source: str, forbidden: list[str]) -> None:
    module = house / source.replace(".", "/") / "__init__.py"
    module.write_text("".join(f"import {one}\n" for one in forbidden))
    printed = lint_imports(house)
    assert f"{name} BROKEN" in " ".join(printed.split())
    for one in forbidden:
        assert f"{source} is not allowed to import {one}" in printed


def test_a_room_that_nobody_named_breaks_the_house(house: Path) -> None:
    (house / "service/helpers.py").touch()
    assert "every module of service has its place BROKEN" in " ".join(lint_imports(house).split())


def test_promql_of_the_dashboard_parses(tmp_path: Path) -> None:
    promtool = shutil.which("promtool", path=PATH)
    if promtool is None:
        pytest.skip("promtool is not installed (make optional-tools)")
    panels = json.loads((ROOT / "deploy/grafana/cuadre.json").read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert expressions
    replaced = [
        expression.replace("$__rate_interval", "1m").replace("$__range", "6h").replace("$job", ".+")
        for expression in expressions
    ]
    assert not [one for one in replaced if "$" in one]
    rules = [{"record": f"cuadre:panel_{index}", "expr": one} for index, one in enumerate(replaced)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    result = run([promtool, "check", "rules", "rules.yaml"], tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
