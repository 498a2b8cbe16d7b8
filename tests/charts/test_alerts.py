"""Alerts and dashboard query only exposed metrics, and every alert has a runbook."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.monitoring.metrics import GAP_CAUSES, exposition
from bridge.monitoring.status import Status
from bridge.settings import load_settings
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.sink import RedisSink
from tests.support.helm import CHART, Rendered, alert_rules
from tests.support.programs import output
from tests.support.running_server import sinks_at_rest

ROOT = CHART.parents[1]
ALERTS = CHART / "files" / "alerts.yaml"
BAD_DAY = Path(__file__).with_name("bad_day.yaml")
DASHBOARD = CHART / "files" / "dashboard.json"
RUNBOOKS = ROOT / "docs" / "guides" / "runbooks.md"
RUNBOOK = re.compile(
    r"\*\*Impact\*\*: .+\n\n"
    r"```text\n(?P<log>[^\n]+)\n```\n\n"
    r"```sh\n(?:kubectl [^\n]+\n)+```\n\n"
    r"\*\*Means\*\*: .+\n\*\*Look\*\*: .+\n\*\*Do\*\*: .+",
    re.DOTALL,
)
# A metric name, and its matchers: `tickbridge_gap_events_total{state=~"open|lost"}`.
SELECTOR = re.compile(r"\b((?:tickbridge|process)_\w+)(?:\{([^}]*)\})?")
# The series of a histogram or a summary.
SUFFIX = re.compile(r"_(bucket|sum|count)$")
GROUPING = re.compile(r"\b(?:by|without|on) \(([^)]*)\)")
MATCHER = re.compile(r'(\w+)(=|!=|=~|!~)"([^"]*)"')
# Labels that Prometheus, or its operator in Kubernetes, adds to every scraped metric.
OF_THE_TARGET = {"instance", "job", "namespace"}

Exposed = Mapping[str, Mapping[str, set[str]]]


@pytest.fixture(scope="module")
def exposed() -> Exposed:
    """Return the label values of each metric of an idle bridge, by metric and label name."""
    settings = load_settings(environment={}, overrides={"binance": {"symbols": ["BTCUSDT"]}})
    status = Status(["trade", "gap", "invalid"])
    sinks_at_rest(status, settings)
    found: dict[str, dict[str, set[str]]] = {}
    text = asyncio.run(exposition(status)).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def _runbooks() -> dict[str, str]:
    """Return the text of each runbook by the name of its alert."""
    _, *parts = re.split(r"^## (Tickbridge\w+)\n", RUNBOOKS.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return panels


def _queries() -> Iterator[tuple[str, str]]:
    """Yield a name and the expression of every dashboard query."""
    for panel in _panels():
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


EXPRESSIONS = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in alert_rules()),
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


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
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
    assert list(_runbooks()) == [rule["alert"] for rule in alert_rules()]


@pytest.mark.parametrize("alert", _runbooks())
def test_a_runbook_says_who_is_hurt_what_is_logged_and_what_to_do(alert: str) -> None:
    parts = RUNBOOK.fullmatch(_runbooks()[alert].strip())
    assert parts, "does not have all parts in their order"
    entry = json.loads(parts["log"])
    assert list(entry)[-3:] == ["event", "level", "timestamp"]
    code = [file.read_text() for file in (ROOT / "bridge").rglob("*.py")]
    assert any(f'"{entry["event"]}"' in text for text in code), "the bridge logs no such event"


def test_the_runbooks_explain_every_cause_and_reason_of_the_metrics() -> None:
    labels = {*GAP_CAUSES}
    for sink in (KafkaSink, RedisSink):
        labels |= {*sink.drop_causes, *sink.failure_reasons}
    explained = set(re.findall(r"`(\w+)`", RUNBOOKS.read_text()))
    assert labels <= explained


def test_the_runbooks_name_panels_of_the_dashboard() -> None:
    named = set(re.findall(r'"([A-Z][^"]*)"', re.sub(r"(?s)```.*?```", "", RUNBOOKS.read_text())))
    assert named
    assert named <= {panel["title"] for panel in _panels()}


def test_the_alerts_of_a_bad_day_and_of_an_hour_of_planned_work_are_right() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH (Debian: prometheus) to evaluate the rules with")
    output(promtool, "test", "rules", str(BAD_DAY))


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


def test_every_metric_of_the_bridge_has_a_panel(exposed: Exposed) -> None:
    shown = {SUFFIX.sub("", name) for _, query in _queries() for name, _ in SELECTOR.findall(query)}
    own = {SUFFIX.sub("", name) for name in exposed if name.startswith("tickbridge_")}
    assert own == {name for name in shown if name.startswith("tickbridge_")}


def test_the_panels_of_the_dashboard_have_a_place_and_a_meaning_each() -> None:
    panels = _panels()
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
