"""What the chart gives to Prometheus and Grafana."""

from typing import Any

from tests.support.helm import Rendered, alert_rules, render


def alerts_of(rendered: Rendered) -> dict[str, dict[str, Any]]:
    (group,) = rendered.one("PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def written() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in alert_rules()}


def test_the_alerts_are_those_of_the_file_without_links_that_lead_nowhere() -> None:
    expected = written()
    for rule in expected.values():
        del rule["annotations"]["runbook_url"]
    assert alerts_of(render({"prometheusRule": {"enabled": True}})) == expected


def test_single_alerts_can_be_left_out_and_changed(cases: dict[str, Rendered]) -> None:
    found, expected = alerts_of(cases["monitoring"]), written()
    assert expected.keys() - found.keys() == {"TickbridgeReconnecting"}
    changed = found["TickbridgeNotProven"]
    assert changed["expr"] == "tickbridge_symbols_unproven_seconds > 60"
    assert changed["for"] == "1m"
    assert changed["labels"] == {"severity": "critical", "team": "market-data"}
    assert (
        changed["annotations"]["summary"]
        == expected["TickbridgeNotProven"]["annotations"]["summary"]
    )


def test_every_alert_links_to_its_runbook_if_the_values_say_where_they_are(
    cases: dict[str, Rendered],
) -> None:
    for name, rule in alerts_of(cases["monitoring"]).items():
        link = rule["annotations"]["runbook_url"]
        assert link == f"https://runbooks.example.com/tickbridge#{name.lower()}"


def test_monitors_find_the_bridge_from_another_namespace(cases: dict[str, Rendered]) -> None:
    case = cases["monitoring"]
    service, pod = case.one("ServiceMonitor"), case.one("PodMonitor")
    assert service["metadata"]["namespace"] == "monitoring"
    assert service["spec"]["namespaceSelector"] == {"matchNames": ["default"]}
    assert "namespaceSelector" not in pod["spec"]
    labels = case.workload["spec"]["template"]["metadata"]["labels"].items()
    assert pod["spec"]["selector"]["matchLabels"].items() <= labels


def test_monitors_scrape_the_metrics_as_the_values_say(cases: dict[str, Rendered]) -> None:
    case = cases["monitoring"]
    (endpoint,) = case.one("ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert endpoint["interval"] == "30s"
    assert endpoint["relabelings"][0]["targetLabel"] == "node"
    assert endpoint["metricRelabelings"][0]["action"] == "drop"
    (of_pods,) = case.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    scrape = {"interval": "15s", "scrapeTimeout": "10s"}
    assert of_pods == {"port": "http", "path": "/metrics"} | scrape
