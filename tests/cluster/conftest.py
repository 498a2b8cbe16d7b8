"""A real cluster: that of the current kubeconfig. `make cluster` runs these tests.

Each test has a namespace of its own, which is deleted at the end, under the Pod Security standard
`restricted`.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.helm import CHART
from tests.support.programs import output, program

# What took how long, for the summary.
TIMES = pytest.StashKey[list[tuple[str, float]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TIMES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for what, seconds in config.stash[TIMES]:
        terminalreporter.write_line(f"{seconds:7.1f} s  {what}")


class Cluster:
    """A namespace of the cluster, and Helm and kubectl for it."""

    def __init__(self, namespace: str, times: list[tuple[str, float]]) -> None:
        self.namespace = namespace
        self._times = times

    def kubectl(self, *words: str, timeout_s: float = 120) -> str:
        """Return the output of kubectl; fail the test if it fails."""
        return output(
            program("kubectl"), "--namespace", self.namespace, *words, timeout_s=timeout_s
        )

    def succeeds(self, *words: str) -> bool:
        """Return whether kubectl exits with 0."""
        command = [program("kubectl"), "--namespace", self.namespace, *words]
        return not subprocess.run(command, capture_output=True, timeout=120, check=False).returncode

    def objects(self, kind: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json"))["items"]
        return items

    def helm(
        self, command: str, *words: str, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Helm on the release `ticks`."""
        return subprocess.run(
            [program("helm"), command, "ticks", "--namespace", self.namespace, *words],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def deploy(self, command: str, *words: str) -> None:
        """Install or upgrade the chart, and wait until the bridge is ready."""
        done = self.helm(command, str(CHART), "--wait", *words)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Print at the end of all tests how long something has taken."""
        started_s = time.monotonic()
        yield
        self._times.append((what, time.monotonic() - started_s))


@pytest.fixture
def cluster(unique: str, pytestconfig: pytest.Config) -> Iterator[Cluster]:
    found = Cluster(f"tickbridge-{unique}", pytestconfig.stash[TIMES])
    found.kubectl("create", "namespace", found.namespace)
    try:
        for mode in ("enforce", "warn"):
            restricted = f"pod-security.kubernetes.io/{mode}=restricted"
            found.kubectl("label", "namespace", found.namespace, restricted)
        yield found
    finally:
        found.kubectl("delete", "namespace", found.namespace, "--wait=false")
