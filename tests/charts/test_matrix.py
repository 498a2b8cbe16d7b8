"""Every values file in ci/: rendered, linted and validated, with its settings checked."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from bridge.settings import load_settings
from tests.support.helm import CASES, CHART, Rendered, lint, render
from tests.support.mounting import lay_out

VERSIONS = ("1.30", "1.33", "1.37")
# Custom resources: Kubernetes has no schema for them.
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute"}

NAMES = [path.name.removesuffix("-values.yaml") for path in CASES]


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, cases: dict[str, Rendered]) -> Rendered:
    return cases[request.param]


def test_the_chart_renders_with_its_default_values(default: Rendered) -> None:
    assert {found["kind"] for found in default.objects} == {
        *("ConfigMap", "Deployment", "NetworkPolicy", "Service", "ServiceAccount"),
        *("Job", "Pod"),  # the check of the settings, and helm test
    }


@pytest.mark.parametrize("path", CASES, ids=NAMES)
def test_helm_lint_has_nothing_to_say(path: Path) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in lint(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_kubernetes_knows(case: Rendered, version: str) -> None:
    for found in case.objects:
        if found["kind"] not in CUSTOM:
            kubernetes_validate.validate(found, version, strict=True)


def test_the_settings_in_the_config_map_pass_the_check(case: Rendered, tmp_path: Path) -> None:
    mounts = lay_out(case, tmp_path, {"url": "redis://cache:6379/0"})
    secrets = mounts.get("/run/secrets/tickbridge")
    environment = {"TICKBRIDGE_SECRETS_DIR": str(secrets)} if secrets else {}
    for text in (case.settings, *((case.checked_settings,) if case.of_kind("Job") else ())):
        for path, folder in mounts.items():
            text = text.replace(path, str(folder))  # noqa: PLW2901
        file = tmp_path / "tickbridge.yaml"
        file.write_text(text)
        load_settings(file, environment=environment)


def test_every_object_has_the_recommended_labels(default: Rendered) -> None:
    for found in default.objects:
        of_hooks = found["kind"] == "Pod"
        assert (
            found["metadata"]["labels"].items()
            >= {
                "app.kubernetes.io/name": "tickbridge-hook" if of_hooks else "tickbridge",
                "app.kubernetes.io/instance": "ticks",
                "app.kubernetes.io/managed-by": "Helm",
            }.items()
        )


def test_common_labels_and_annotations_are_on_every_object_and_pod(
    cases: dict[str, Rendered],
) -> None:
    pods = [
        found["spec"]["template"]
        for kind in ("Deployment", "Job")
        for found in cases["placed"].of_kind(kind)
    ]
    for found in (*cases["placed"].objects, *pods):
        assert found["metadata"]["labels"]["team"] == "market-data"
        assert found["metadata"]["annotations"]["example.com/owner"] == "market-data"


def test_labels_cannot_replace_those_that_select_the_pod() -> None:
    names = {"app.kubernetes.io/name": "other"}
    rendered = render({"commonLabels": names, "podLabels": names, "service": {"labels": names}})
    for found in (rendered.one("Service"), rendered.workload["spec"]["template"]):
        assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "tickbridge"


@pytest.mark.parametrize("release", ["my.rel", "r" * 53])
def test_names_are_ones_that_every_object_may_have(release: str) -> None:
    for found in render(release=release).objects:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{,61}[a-z0-9])?", found["metadata"]["name"])


def test_there_is_one_object_in_each_template() -> None:
    for path in (CHART / "templates").rglob("*.yaml"):
        if path.name != "extraobjects.yaml":
            kinds = [line for line in path.read_text().splitlines() if line.startswith("kind:")]
            assert len(kinds) == 1, path.name


def test_objects_of_ones_own_are_rendered_as_templates(cases: dict[str, Rendered]) -> None:
    found = {o["metadata"]["name"]: o for o in cases["extended"].of_kind("ConfigMap")}
    assert found["of-an-object"]["data"] == {"release": "ticks"}
    assert "ticks-ticks-feed-of-a-text" in found


def test_what_is_turned_off_is_not_there(cases: dict[str, Rendered]) -> None:
    kinds = {found["kind"] for found in cases["extended"].objects}
    assert kinds == {"ConfigMap", "Deployment", "Service", "Pod"}


def test_a_number_of_seven_digits_and_more_stays_a_whole_number() -> None:
    values: dict[str, Any] = {"settings": {"kafka": {"retention_ms": 31_536_000_000}}}
    assert "retention_ms: 31536000000\n" in render(values).settings
