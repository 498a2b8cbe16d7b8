"""Several bridges that share the shards."""

import pytest

from tests.support.helm import Rendered, render

PAIR = {"replicas": 2, "settings": {"cluster": {"standby": 1}}}


@pytest.fixture(scope="module")
def pair() -> Rendered:
    return render(PAIR)


def test_the_bridges_of_a_group_keep_their_names(pair: Rendered) -> None:
    workload = pair.one("StatefulSet")
    assert workload["spec"]["replicas"] == 2
    name = {"fieldRef": {"fieldPath": "metadata.name"}}
    assert {"name": "TICKBRIDGE_CLUSTER__INSTANCE_ID", "valueFrom": name} in pair.container["env"]


def test_the_check_of_the_settings_takes_the_name_of_no_bridge(pair: Rendered) -> None:
    (container,) = pair.one("Job")["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in container["env"]] == ["TICKBRIDGE_CONFIG"]


def test_they_start_together_and_are_replaced_one_after_the_other(pair: Rendered) -> None:
    spec = pair.one("StatefulSet")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["minReadySeconds"] > 0
    assert "updateStrategy" not in spec  # Kubernetes replaces one pod at a time
    assert spec["serviceName"] == pair.one("Service")["metadata"]["name"]


def test_a_node_is_drained_while_another_bridge_publishes(pair: Rendered) -> None:
    assert pair.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_budget_is_that_of_the_values(pair: Rendered) -> None:
    name = pair.one("PodDisruptionBudget")["metadata"]["name"]
    none = render(PAIR | {"podDisruptionBudget": {"enabled": False}})
    assert none.of_kind("PodDisruptionBudget") == []
    strict = render(PAIR | {"podDisruptionBudget": {"maxUnavailable": 0}})
    assert strict.named("PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 0


def test_they_are_spread_over_zones_and_nodes(pair: Rendered) -> None:
    spread = pair.pod["topologySpreadConstraints"]
    keys = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert [each["topologyKey"] for each in spread] == keys
    selector = pair.one("StatefulSet")["spec"]["selector"]
    assert all(each["labelSelector"] == selector for each in spread)


def test_constraints_of_the_values_replace_those_of_the_chart() -> None:
    own = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    (found,) = render(PAIR | {"topologySpreadConstraints": [own]}).pod["topologySpreadConstraints"]
    assert found["topologyKey"] == "rack"


def test_each_bridge_has_a_volume_of_its_own(cases: dict[str, Rendered]) -> None:
    group = cases["group"]
    assert group.of_kind("PersistentVolumeClaim") == []
    (claim,) = group.one("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    assert claim["spec"]["storageClassName"] == "fast"
    mounts = {each["name"]: each["mountPath"] for each in group.container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == "/var/lib/tickbridge"
    assert [each["name"] for each in group.pod["volumes"]] == ["settings"]


def test_the_number_of_bridges_may_follow_their_load(cases: dict[str, Rendered]) -> None:
    group = cases["group"]
    workload, scaler = group.one("StatefulSet"), group.one("HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in workload["spec"]  # otherwise an upgrade would reset it
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", workload["metadata"]["name"])
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 3)
    assert "cpu" in group.container["resources"]["requests"]


@pytest.mark.parametrize("cluster", [{"shards": 2}, {"standby": 1}, {"shards": 2, "standby": 1}])
def test_shards_and_standbys_make_a_group(cluster: dict[str, int]) -> None:
    assert render({"settings": {"cluster": cluster}}).of_kind("StatefulSet")


@pytest.mark.parametrize("cluster", [{}, {"shards": 1}, {"standby": 0, "takeover_ms": 3000}])
def test_a_lone_bridge_is_replaced_when_its_node_is_lost(cluster: dict[str, int]) -> None:
    lone = render({"settings": {"cluster": cluster}})
    assert lone.one("Deployment")["spec"]["replicas"] == 1
    assert [each["name"] for each in lone.container["env"]] == ["TICKBRIDGE_CONFIG"]
    assert lone.of_kind("PodDisruptionBudget") == []
