"""Helm's hooks: the check of the settings, and `helm test`."""

from typing import Any

import yaml

from bridge.cli.app import app
from tests.support.helm import Rendered, render

CLAIM = {"name": "old", "persistentVolumeClaim": {"claimName": "old"}}
CERTIFICATES = {"name": "certificates", "secret": {"secretName": "ca"}}


def check_of(rendered: Rendered) -> dict[str, Any]:
    pod: dict[str, Any] = rendered.one("Job")["spec"]["template"]["spec"]
    return pod


def test_the_settings_are_checked_before_helm_changes_anything(default: Rendered) -> None:
    job = default.one("Job")
    settings = default.named("ConfigMap", job["metadata"]["name"])
    for found in (job, settings):
        hooks = found["metadata"]["annotations"]["helm.sh/hook"]
        assert hooks == "pre-install,pre-upgrade,pre-rollback"
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 120
    (container,) = check_of(default)["containers"]
    assert container["args"] == ["config", "check", "--connect"]


def test_the_settings_are_there_before_the_check(default: Rendered) -> None:
    settings = default.named("ConfigMap", default.one("Job")["metadata"]["name"])
    annotations = settings["metadata"]["annotations"]
    assert int(annotations["helm.sh/hook-weight"]) < 0


def test_the_check_has_what_the_bridge_has(cases: dict[str, Rendered]) -> None:
    for case in (cases["secure"], cases["placed"]):
        (container,) = check_of(case)["containers"]
        bridge = case.container
        for key in ("image", "imagePullPolicy", "securityContext", "env", "envFrom"):
            assert container.get(key) == bridge.get(key)
        assert container["resources"]["limits"] == bridge["resources"]["limits"]
        for key in ("securityContext", "imagePullSecrets", "hostAliases", "tolerations"):
            assert check_of(case).get(key) == case.pod.get(key)
    mounts = {
        mount["mountPath"] for mount in check_of(cases["secure"])["containers"][0]["volumeMounts"]
    }
    assert mounts == {"/etc/tickbridge", "/run/secrets/tickbridge", "/run/certificates"}


def test_the_check_uses_no_claim_because_the_bridge_that_runs_uses_it() -> None:
    rendered = render(
        {
            "persistence": {"enabled": True},
            "settings": {"spill_max_bytes": "2GiB"},
            "extraVolumes": [CLAIM, CERTIFICATES],
            "extraVolumeMounts": [
                {"name": "old", "mountPath": "/old"},
                {"name": "certificates", "mountPath": "/certificates"},
            ],
        }
    )
    pod = check_of(rendered)
    assert {volume["name"] for volume in pod["volumes"]} == {"settings", "certificates"}
    mounts = [mount["name"] for mount in pod["containers"][0]["volumeMounts"]]
    assert mounts == ["settings", "certificates"]
    checked = yaml.safe_load(rendered.checked_settings)
    disk = {"data_dir": "/var/lib/tickbridge", "spill_max_bytes": "2GiB"}
    assert checked | disk == yaml.safe_load(rendered.settings)


def test_the_check_uses_no_account_that_is_not_there_yet(cases: dict[str, Rendered]) -> None:
    assert check_of(cases["placed"])["serviceAccountName"] == "default"
    own = render({"serviceAccount": {"create": False, "name": "ticks"}})
    assert check_of(own)["serviceAccountName"] == "ticks"


def test_the_check_can_be_turned_off(cases: dict[str, Rendered]) -> None:
    assert cases["extended"].of_kind("Job") == []


def test_the_service_sends_nobody_to_a_hook(default: Rendered) -> None:
    selector = default.one("Service")["spec"]["selector"].items()
    for pod in (default.one("Job")["spec"]["template"], default.one("Pod")):
        assert not selector <= pod["metadata"]["labels"].items()


def test_helm_test_asks_for_the_status_through_the_service(
    default: Rendered, cases: dict[str, Rendered]
) -> None:
    for case, url in (
        (default, "http://ticks-tickbridge.default:8080"),
        (cases["reached"], "http://ticks-tickbridge.default:80"),
    ):
        (container,) = case.one("Pod")["spec"]["containers"]
        assert container["args"] == ["status", "--url", url]
    assert "status" in {command.name for command in app.registered_commands}


def test_the_network_policy_lets_hooks_out_and_helm_test_in(cases: dict[str, Rendered]) -> None:
    case = cases["monitoring"]
    spec = case.one("NetworkPolicy")["spec"]
    (names,) = spec["podSelector"]["matchExpressions"]
    hook = case.one("Pod")["metadata"]["labels"]
    assert hook["app.kubernetes.io/name"] in names["values"]
    (rule,) = spec["ingress"]
    assert hook.items() >= rule["from"][0]["podSelector"]["matchLabels"].items()
