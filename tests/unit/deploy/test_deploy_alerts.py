"""Every alert says what to do, leads to its section of the operator's guide, and is tested firing and silent."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.orders.rules import RULES as RECONCILIATION_RULES

ROOT = Path(__file__).resolve().parents[3]
GUIDE = "docs/operating.md"
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
CASES = [
    case
    for test in yaml.safe_load((ROOT / "deploy/prometheus/alerts_test.yaml").read_text())["tests"]
    for case in test["alert_rule_test"]
]


def anchors(markdown: str) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(markdown: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", markdown) if "://" not in link]


@pytest.mark.parametrize("alert", [pytest.param(alert, id=alert["alert"]) for alert in ALERTS])
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["for"]
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    path, anchor = alert["annotations"]["runbook_url"].split("#")
    assert path == GUIDE
    assert anchor in anchors((ROOT / GUIDE).read_text())


@pytest.mark.parametrize("name", [alert["alert"] for alert in ALERTS])
def test_an_alert_is_tested_firing_and_silent(name: str) -> None:
    outcomes = {bool(case["exp_alerts"]) for case in CASES if case["alertname"] == name}
    assert outcomes == {True, False}


def test_no_alert_stands_twice() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(names) == len(set(names))


def _name_of(node: ast.expr) -> str:
    assert isinstance(node, ast.Name)
    return node.id.lower()


def severities_of_the_rules() -> dict[str, set[str]]:
    """Every reconciliation rule with the severities that the service gives it, read from its source."""
    found: dict[str, set[str]] = {rule: set() for rule in RECONCILIATION_RULES}
    for path in (ROOT / "service/orders").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                # Some rules are named by a constant of the same name.
                rule = given["rule"].value if isinstance(given["rule"], ast.Constant) else _name_of(given["rule"])
                named = {str(one.value) for one in ast.walk(given["severity"]) if isinstance(one, ast.Constant)}
                found[str(rule)] |= named & {"critical", "warning", "info"}
    return found


def test_every_rule_that_can_be_critical_raises_the_critical_alert_and_the_others_the_other() -> None:
    by_name = {alert["alert"]: alert["expr"] for alert in ALERTS}
    critical = re.search(r'rule!~"([^"]+)"', by_name["CuadreMoneyDoesNotAddUp"])
    others = re.search(r'rule=~"([^"]+)"', by_name["CuadreDiscrepanciesOpen"])
    assert critical is not None
    assert others is not None
    assert critical[1] == others[1]
    severities = severities_of_the_rules()
    assert all(severities.values())
    assert set(others[1].split("|")) == {rule for rule, given in severities.items() if "critical" not in given}


@pytest.mark.parametrize("document", [GUIDE, "deploy/kubernetes/README.md"])
def test_links_of_the_guides_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    found = links(text)
    assert found
    for link in found:
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_dashboard_can_be_imported() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/cuadre.json").read_text())
    assert dashboard["schemaVersion"] >= 42
    assert dashboard["id"] is None
    sources = [one["name"] for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert sources == ["datasource"]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults.get("unit") or panel["options"]["yAxis"]["unit"], panel["title"]


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads((ROOT / "deploy/grafana/cuadre.json").read_text())["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
