"""Alerts and dashboard query only exposed metrics, and every alert has a runbook."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.core.model.stream import SPOT
from bridge.monitoring.metrics import exposition
from bridge.monitoring.status import Status
from bridge.settings import load_settings
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.sink import RedisSink
from tests.support.helm import CHART, Rendered
from tests.support.programs import output

ROOT = CHART.parents[1]
ALERTS = CHART / "files" / "alerts.yaml"
BAD_DAY = Path(__file__).with_name("bad_day.yaml")
DASHBOARD = CHART / "files" / "dashboard.json"
# A metric name, and its matchers: `tickbridge_gap_events_total{state=~"open|lost"}`.
SELECTOR = re.compile(r"\b((?:tickbridge|process)_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without|on) \(([^)]*)\)")
MATCHER = re.compile(r'(\w+)(=|!=|=~|!~)"([^"]*)"')
# Labels that Prometheus adds to every scraped metric.
OF_THE_TARGET = {"instance", "job"}

Exposed = Mapping[str, Mapping[str, set[str]]]


@pytest.fixture(scope="module")
def exposed() -> Exposed:
    """Return the label values of each metric of an idle bridge, by metric and label name."""
    settings = load_settings(environment={}, overrides={"binance": {"symbols": ["BTCUSDT"]}})
    sinks = (KafkaSink(settings.kafka, []), RedisSink(settings.redis, SPOT))
    found: dict[str, dict[str, set[str]]] = {}
    text = asyncio.run(exposition(Status(["trade", "gap", "invalid"], sinks))).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def _rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def _queries() -> Iterator[tuple[str, str]]:
    """Yield a name and the expression of every dashboard query."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


EXPRESSIONS = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in _rules()),
    *(pytest.param(query, id=title) for title, query in _queries()),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_series_that_are_exposed(expression: str, exposed: Exposed) -> None:
    selectors = SELECTOR.findall(expression)
    assert selectors, "names no metric"
    grouped = {label for labels in GROUPING.findall(expression) for label in labels.split(", ")}
    known_labels = {label for name, _ in selectors for label in exposed.get(name, ())}
    assert grouped <= known_labels | OF_THE_TARGET
    for name, matchers in selectors:
        assert name in exposed
        for label, operator, value in MATCHER.findall(matchers):
            if label in OF_THE_TARGET:
                continue
            known = exposed[name][label]
            if operator.endswith("~"):
                assert set(value.split("|")) <= known
            else:
                assert value in known


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_how_bad_and_where_its_runbook_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"].endswith(".")
    page, _, section = rule["annotations"]["runbook_url"].partition("#")
    headings = [
        line.removeprefix("## ").lower()
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("## ")
    ]
    assert section == rule["alert"].lower()
    assert section in headings


def test_every_runbook_is_that_of_an_alert() -> None:
    text = (ROOT / "docs" / "guides" / "runbooks.md").read_text()
    written = re.findall(r"^## (Tickbridge\w+)$", text, re.MULTILINE)
    assert written == [rule["alert"] for rule in _rules()]


def test_a_bad_day_is_told_by_the_right_alerts_at_the_right_time() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH (Debian: prometheus) to evaluate the rules with")
    output(promtool, "test", "rules", str(BAD_DAY))


def test_the_rule_of_the_chart_has_every_alert_and_links_to_where_the_values_say(
    cases: dict[str, Rendered],
) -> None:
    (group,) = cases["monitoring"].one("PrometheusRule")["spec"]["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [rule["alert"] for rule in _rules()]
    assert [rule["expr"] for rule in group["rules"]] == [rule["expr"] for rule in _rules()]
    for rule in group["rules"]:
        link = f"https://runbooks.example.com/tickbridge#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link


def test_prometheus_and_grafana_find_what_the_chart_makes_for_them(
    cases: dict[str, Rendered],
) -> None:
    case = cases["monitoring"]
    monitor = case.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert case.one("PrometheusRule")["metadata"]["labels"]["release"] == "prometheus"
    (found,) = (o for o in case.of_kind("ConfigMap") if "dashboard" in o["metadata"]["name"])
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["tickbridge.json"]) == json.loads(DASHBOARD.read_text())


def test_the_panels_of_the_dashboard_have_a_place_and_a_meaning_each() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        *("Feed", "Completeness", "Sinks", "Latency", "Resources")
    ]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
