"""A release on a cluster that runs pods, with the values of the file CLUSTER_VALUES.

They name the image, Kafka, Redis, the exchange, and the symbols BTCUSDT and ETHUSDT. A Secret that
they need is one of their `extraObjects`, with the annotation `helm.sh/hook: pre-install`.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster
from tests.support.helm import CHART

WAIT_TIMEOUT_S = 300
# A pod gets a changed ConfigMap a minute or two after the change.
CONFIG_MAP_TIMEOUT_S = 180
# A bridge that was killed under its name counts in the group for 45 s.
GROUP_TIMEOUT_S = 120
# Of the default streams.
KINDS = ("trade", "quote", "ticker")
PAIR = ("--set", "replicas=2", "--set", "settings.cluster.standby=1")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not os.environ.get("CLUSTER_VALUES"),
        reason="needs a cluster that runs pods; make cluster VALUES=yours.yaml",
    ),
]


class Release:
    """The release `ticks` with its values, and what changes them."""

    def __init__(self, cluster: Cluster, values: Path) -> None:
        self.cluster = cluster
        self._values = ("--values", str(values))

    def install(self, *changes: str) -> None:
        self.cluster.deploy("install", *self._values, *changes)

    def upgrade(self, *changes: str) -> None:
        self.cluster.deploy("upgrade", *self._values, *changes)

    def refused_upgrade(self, *changes: str) -> str:
        """Return what Helm says about an upgrade that it must refuse."""
        words = ("--wait", *self._values, *changes, "--set", "settingsCheck.timeoutSeconds=20")
        done = self.cluster.helm("upgrade", str(CHART), *words)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def pod(self) -> str:
        """Return the name of the only pod of the bridge, which must be ready."""
        (pod,) = (
            each
            for each in self.cluster.objects("pods")
            if each["metadata"]["labels"]["app.kubernetes.io/name"] == "tickbridge"
        )
        conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
        assert conditions["Ready"] == "True"
        name: str = pod["metadata"]["name"]
        return name

    def tickbridge(self, *words: str) -> str:
        """Return the output of a command in a pod. It must exit with 0."""
        return self.cluster.kubectl("exec", "svc/ticks-tickbridge", "--", "tickbridge", *words)

    def wait_for_both(self) -> None:
        """Wait until the shard has an owner and a standby: then the command exits with 0."""
        deadline_s = time.monotonic() + GROUP_TIMEOUT_S
        words = ("exec", "svc/ticks-tickbridge", "--", "tickbridge", "status", "--cluster")
        while not self.cluster.succeeds(*words):
            assert time.monotonic() < deadline_s, "one of the two bridges is missing"
            time.sleep(0.5)

    def owner(self) -> str:
        """Return the bridge, and so the pod, that publishes."""
        found = json.loads(self.tickbridge("status", "--cluster", "--json"))
        name: str = found["shards"][0]["owner"]["name"]
        return name

    def gap_events(self) -> int:
        """Return the number of gap events, of all kinds of events."""
        reports = (self.tickbridge("audit", "--kind", kind, "--json") for kind in KINDS)
        return sum(json.loads(report)["gap_events"] for report in reports)

    def ready(self) -> None:
        """Wait until the Deployment is rolled out."""
        timeout = f"--timeout={WAIT_TIMEOUT_S}s"
        words = ("rollout", "status", "deploy/ticks-tickbridge", timeout)
        self.cluster.kubectl(*words, timeout_s=WAIT_TIMEOUT_S + 30)


@pytest.fixture
def release(cluster: Cluster) -> Iterator[Release]:
    """Install the release, and wait until it is ready."""
    values = Path(os.environ["CLUSTER_VALUES"]).resolve()
    found = Release(cluster, values)
    with cluster.timed("install until ready"):
        found.install()
    try:
        yield found
    finally:
        cluster.helm("uninstall", "--wait")


REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "a wrong symbol": (("--set", "settings.binance.symbols={btc/usd}"), "binance.symbols"),
    "a tag that does not exist": (("--set", "image.tag=none"), "DeadlineExceeded"),
    "a wrong password": (
        ("--set", "secrets.redis.password.name=wrong,secrets.redis.password.key=password"),
        "Redis refuses us",
    ),
    "a Secret that does not exist": (
        ("--set", "secrets.redis.password.name=none,secrets.redis.password.key=password"),
        "DeadlineExceeded",
    ),
}


def test_an_upgrade_that_cannot_work_leaves_the_bridge_alone_and_says_why(
    release: Release,
) -> None:
    cluster = release.cluster
    cluster.kubectl("create", "secret", "generic", "wrong", "--from-literal=password=wrong-one")
    before = release.pod()
    for what, (changes, reason) in REFUSED.items():
        with cluster.timed(f"refused upgrade: {what}"):
            said = release.refused_upgrade(*changes)
        assert reason in said, said
        assert "wrong-one" not in said
        assert release.pod() == before
    events = cluster.kubectl("get", "events")
    assert ":none" in events
    assert 'secret "none" not found' in events


def test_upgrade_and_rollback_replace_the_bridge_and_lose_no_trade(release: Release) -> None:
    cluster = release.cluster
    before = release.pod()
    with cluster.timed("upgrade until ready"):
        release.upgrade("--set", "settings.status.interval_s=7")
    after = release.pod()
    assert after != before
    with cluster.timed("rollback until ready"):
        done = cluster.helm("rollback", "1", "--wait")
    assert done.returncode == 0, done.stderr
    assert release.pod() != after
    release.tickbridge("audit", "--kind", "trade")  # exits with 1 if a trade is missing


def test_two_bridges_are_upgraded_and_one_is_killed_without_a_hole(release: Release) -> None:
    """No event is lost, repeated or announced as missing."""
    cluster = release.cluster
    with cluster.timed("from one bridge to two, until both are ready"):
        release.upgrade(*PAIR)
    release.wait_for_both()
    before = release.gap_events()
    with cluster.timed("upgrade of two bridges, until both are ready"):
        release.upgrade(*PAIR, "--set", "settings.status.interval_s=7")
    release.wait_for_both()
    with cluster.timed("a bridge killed with its pod, until it stands by"):
        cluster.kubectl("delete", "pod", release.owner(), "--force", "--grace-period=0")
        release.wait_for_both()
    assert release.gap_events() == before


def test_symbols_change_under_way_without_a_restart(release: Release) -> None:
    cluster = release.cluster
    release.upgrade("--set", "restartOnChange=false")
    before = release.pod()
    with cluster.timed("changed symbols until they are in force"):
        release.upgrade(
            *("--set", "restartOnChange=false", "--set", "settings.binance.symbols={ETHUSDT}")
        )
        deadline_s = time.monotonic() + CONFIG_MAP_TIMEOUT_S
        while "settings_read" not in cluster.kubectl("logs", before):
            assert time.monotonic() < deadline_s, "the changed settings are not in force"
            time.sleep(1)
    assert release.pod() == before


def test_a_drained_node_stops_the_bridge_and_gets_it_back(release: Release) -> None:
    cluster = release.cluster
    before = release.pod()
    (node,) = {each["metadata"]["name"] for each in cluster.objects("nodes")}
    selector = "--pod-selector=app.kubernetes.io/instance=ticks"
    try:
        with cluster.timed("drain"):
            cluster.kubectl("drain", node, selector, "--force", "--ignore-daemonsets")
    finally:
        cluster.kubectl("uncordon", node)
    with cluster.timed("after the drain until ready"):
        release.ready()
    assert release.pod() != before


def test_commands_in_the_pod_need_no_options(release: Release) -> None:
    assert json.loads(release.tickbridge("status", "--json"))["unready"] == []
    assert release.tickbridge("config", "check", "--connect").count("accepts the bridge") == 2
    assert "BTCUSDT" in release.tickbridge("price")
