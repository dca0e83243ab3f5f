"""What the dashboard and the alert rules ask for is what the service publishes: metric names, labels, buckets."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.telemetry import metrics

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
ALERTS_TEST = ROOT / "deploy/prometheus/alerts_test.yaml"
DASHBOARD = ROOT / "deploy/grafana/cuadre.json"

# Given by Prometheus or by the scrape job, not by us.
SCRAPE_LABELS = frozenset({"job", "instance", "pod"})
GROUPINGS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
WORDS = frozenset({"and", "or", "unless", "offset", "bool"})
TOKEN = re.compile(
    r"""
    (?P<string>"(?:\\.|[^"\\])*") | (?P<range>\[[^\]]*\]) | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<number>[0-9.]+[a-z]*) | (?P<variable>\$[A-Za-z_]+) | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>={}(),@]) | \s+
    """,
    re.VERBOSE,
)


@dataclass
class Asked:
    """What one PromQL expression asks for: each metric with the labels matched on it, and the labels grouped by."""

    metrics: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)


def tokens(expression: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(expression):
        match = TOKEN.match(expression, position)
        assert match, f"not understood: {expression[position:]!r}"
        position = match.end()
        if match.lastgroup:
            found.append((match.lastgroup, match.group()))
    return found


def until(parts: list[tuple[str, str]], start: int, closing: str) -> tuple[frozenset[str], int]:
    """The names between here and the closing sign, and the place after it."""
    end = parts.index(("sign", closing), start)
    return frozenset(text for kind, text in parts[start:end] if kind == "name"), end + 1


def read(expression: str) -> Asked:
    asked, parts, place = Asked(), tokens(expression), 0
    while place < len(parts):
        kind, text = parts[place]
        following = parts[place + 1][1] if place + 1 < len(parts) else ""
        place += 1
        if kind != "name" or text in WORDS:
            continue
        if text in GROUPINGS:
            labels, place = until(parts, place + 1, ")")
            asked.grouped |= labels
        elif following == "{":
            labels, place = until(parts, place + 1, "}")
            asked.metrics.append((text, labels))
        elif following != "(" and following not in GROUPINGS:
            asked.metrics.append((text, frozenset()))
    return asked


def published() -> dict[str, frozenset[str]]:
    """Every series name of the service with its labels, as a scrape shows them."""
    series: dict[str, frozenset[str]] = {}
    for metric in vars(metrics).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        labels = frozenset(metric._labelnames)
        name = metric._name
        if metric._type == "counter":
            series[f"{name}_total"] = labels
        elif metric._type == "histogram":
            series |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            series[name] = labels
    return series


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def known_series() -> dict[str, frozenset[str]]:
    recorded = {rule["record"]: frozenset(read(rule["expr"]).grouped) for rule in rules() if "record" in rule}
    return published() | recorded | {"up": frozenset()}


def panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield panel
        yield from panel.get("panels", [])


def problems(expression: str, spoken_of: set[str]) -> list[str]:
    """What is wrong with an expression and the labels that its legend or its texts speak of; nothing is right."""
    known, asked = known_series(), read(expression)
    wrong = []
    available = set(SCRAPE_LABELS)
    for name, labels in asked.metrics:
        if name not in known:
            wrong.append(f"no metric {name}")
            continue
        available |= known[name]
        wrong += [f"{name} has no label {label}" for label in sorted(labels - known[name] - SCRAPE_LABELS)]
    wrong += [f"nothing here has a label {label}" for label in sorted((asked.grouped | spoken_of) - available)]
    if asked.grouped:
        wrong += [f"{label} is not among the groups" for label in sorted(spoken_of - asked.grouped)]
    return wrong


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.get("alert") or rule["record"]) for rule in rules()])
def test_rules_ask_for_what_is_published(rule: dict[str, Any]) -> None:
    spoken_of = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
    assert problems(rule["expr"], spoken_of) == []


@pytest.mark.parametrize(
    "panel", [pytest.param(panel, id=f"{panel['id']}-{panel['title']}") for panel in panels() if panel["type"] != "row"]
)
def test_panels_ask_for_what_is_published(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        assert problems(target["expr"], set(re.findall(r"{{(\w+)}}", target["legendFormat"]))) == []


def test_dashboard_variables_ask_for_what_is_published() -> None:
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    queries = [variable["definition"] for variable in variables if variable["type"] == "query"]
    assert queries
    for query in queries:
        asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert asked, query
        assert asked[1] in published()
        assert asked[2] in published()[asked[1]] | SCRAPE_LABELS


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        name for panel in panels() for target in panel.get("targets", []) for name, _ in read(target["expr"]).metrics
    }
    whole = {re.sub(r"_(bucket|sum|count)$", "", name) for name in published()}
    assert whole - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == set()


def test_buckets_of_the_alert_tests_exist() -> None:
    bounds = {f"{bound:g}" for bound in metrics._LONG_SECONDS} | {"+Inf"}
    used = set(re.findall(r'cuadre_freshness_seconds_bucket\{[^}]*le="([^"]+)"', ALERTS_TEST.read_text()))
    assert used
    assert used <= bounds


@pytest.mark.parametrize(
    ("expression", "spoken_of", "wrong"),
    [
        ("cuadre_no_such_metric > 0", set(), ["no metric cuadre_no_such_metric"]),
        ("rate(cuadre_notifications[5m])", set(), ["no metric cuadre_notifications"]),
        (
            'sum(rate(cuadre_notifications_total{result="x"}[5m]))',
            set(),
            ["cuadre_notifications_total has no label result"],
        ),
        ("sum by (rule) (cuadre_orders_due)", set(), ["nothing here has a label rule"]),
        ("sum by (outcome) (cuadre_notifications_total)", {"topic"}, ["topic is not among the groups"]),
        ("sum(cuadre_freshness_seconds_bucket) by (le)", set(), []),
        ('1 - (cuadre_discrepancies_open{rule!~"a|{b}", job=~"$job"} offset 1h > bool 0.5e0)', set(), []),
    ],
)
def test_the_reader_sees_what_is_wrong(expression: str, spoken_of: set[str], wrong: list[str]) -> None:
    assert problems(expression, spoken_of) == wrong
