"""The chart as Helm renders it."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import program

CHART = Path(__file__).parents[2] / "charts" / "tickbridge"
CASES = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE = "ticks"
TIMEOUT_S = 60
# Without a cluster Helm takes the version from its build, and not every build has one.
KUBERNETES = ("--kube-version", "1.34")

Values = Mapping[str, Any] | Path


@dataclass(frozen=True)
class Rendered:
    """The objects of one rendering."""

    objects: list[dict[str, Any]]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [found for found in self.objects if found["kind"] == kind]

    def named(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = (each for each in self.of_kind(kind) if each["metadata"]["name"] == name)
        return found

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = self.of_kind(kind)
        return found

    @property
    def pod(self) -> dict[str, Any]:
        pod: dict[str, Any] = self.workload["spec"]["template"]["spec"]
        return pod

    @property
    def workload(self) -> dict[str, Any]:
        """Return the Deployment or StatefulSet of the bridge."""
        (found,) = (*self.of_kind("Deployment"), *self.of_kind("StatefulSet"))
        return found

    @property
    def container(self) -> dict[str, Any]:
        container: dict[str, Any]
        (container,) = (each for each in self.pod["containers"] if each["name"] == "tickbridge")
        return container

    @property
    def settings(self) -> str:
        """Return the settings file in the ConfigMap."""
        return self.settings_in(self.workload["metadata"]["name"])

    @property
    def checked_settings(self) -> str:
        """Return the settings file that the Job checks before the installation."""
        return self.settings_in(self.one("Job")["metadata"]["name"])

    def settings_in(self, config_map: str) -> str:
        text: str = self.named("ConfigMap", config_map)["data"]["tickbridge.yaml"]
        return text


def render(values: Values | None = None, release: str = RELEASE) -> Rendered:
    """Render the chart with these values; fail the test if Helm refuses."""
    done = _helm("template", release, str(CHART), *KUBERNETES, values=values)
    if done.returncode:
        pytest.fail(done.stderr)
    return Rendered(list(_objects(done.stdout)))


def refusal(values: Values) -> str:
    """Return Helm's error about these values; fail the test if Helm accepts them."""
    done = _helm("template", RELEASE, str(CHART), *KUBERNETES, values=values)
    assert done.returncode != 0, "the values were accepted"
    return done.stderr


def alert_rules() -> list[dict[str, Any]]:
    """Return the alerts as they are written in the chart."""
    (group,) = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def lint(values: Values) -> str:
    """Return the output of `helm lint --strict`; fail the test if it finds an error."""
    done = _helm("lint", "--strict", str(CHART), values=values)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr)
    return done.stdout


def _helm(*words: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm. Values that are not a file go to standard input as JSON, which is valid YAML."""
    path = values if isinstance(values, Path) else "-"
    return subprocess.run(
        [program("helm"), *words, "--values", str(path)],
        input=None if isinstance(values, Path) else json.dumps(values or {}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def _objects(text: str) -> Iterator[dict[str, Any]]:
    return (found for found in yaml.safe_load_all(text) if found is not None)
