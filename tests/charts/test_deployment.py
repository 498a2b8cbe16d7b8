"""The pod: its container, and its rights."""

from tests.support.helm import Rendered, render


def test_it_is_one_bridge_and_the_old_one_ends_before_the_new_one_begins(
    default: Rendered,
) -> None:
    spec = default.one("Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_a_change_of_the_settings_changes_the_pod(default: Rendered) -> None:
    changed = render({"settings": {"binance": {"redundancy": 2}}})
    assert _checksum(changed) != _checksum(default)


def test_settings_that_change_under_way_leave_the_pod_as_it_is(cases: dict[str, Rendered]) -> None:
    live = {"restartOnChange": False}
    one, other = render(live), render(live | {"settings": {"binance": {"symbols": ["ETHUSDT"]}}})
    assert one.settings != other.settings
    assert one.workload == other.workload
    assert "annotations" not in cases["extended"].workload["spec"]["template"]["metadata"]


def test_the_settings_are_mounted_so_that_their_changes_arrive(default: Rendered) -> None:
    """Kubernetes never updates a file that is mounted by `subPath`."""
    (mount,) = (m for m in default.container["volumeMounts"] if m["name"] == "settings")
    assert mount == {"name": "settings", "mountPath": "/etc/tickbridge", "readOnly": True}


def test_a_change_of_anything_else_leaves_the_checksum(
    default: Rendered, cases: dict[str, Rendered]
) -> None:
    assert _checksum(cases["monitoring"]) == _checksum(default)


def test_it_cannot_talk_to_the_cluster(default: Rendered) -> None:
    assert default.pod["automountServiceAccountToken"] is False
    assert default.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert default.pod["enableServiceLinks"] is False


def test_it_is_not_root_and_can_become_nothing_else(default: Rendered) -> None:
    pod, container = default.pod["securityContext"], default.container["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] == 10001
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_only_an_event_loop_that_does_not_turn_restarts_it(default: Rendered) -> None:
    container = default.container
    assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_it_is_given_more_time_to_end_than_it_takes_to_deliver(
    default: Rendered, cases: dict[str, Rendered]
) -> None:
    assert default.pod["terminationGracePeriodSeconds"] == 30
    assert cases["placed"].pod["terminationGracePeriodSeconds"] == 56
    assert cases["extended"].pod["terminationGracePeriodSeconds"] == 90


def test_the_ports_follow_the_settings(cases: dict[str, Rendered]) -> None:
    assert cases["placed"].container["ports"] == [{"name": "http", "containerPort": 9000}]
    (port,) = cases["placed"].one("Service")["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_a_bridge_that_is_not_ready_is_still_reached_through_the_service(
    default: Rendered,
) -> None:
    assert default.one("Service")["spec"]["publishNotReadyAddresses"] is True


def test_a_digest_goes_before_the_tag(default: Rendered, cases: dict[str, Rendered]) -> None:
    assert default.container["image"] == "tickbridge:0.1.0"
    name, _, digest = cases["placed"].container["image"].partition("@")
    assert name == "registry.example.com/tickbridge"
    assert digest.startswith("sha256:")
    both = {"image": {"tag": "9", "digest": digest}}
    assert render(both).container["image"] == f"tickbridge@{digest}"


def test_the_registry_of_all_images_goes_before_that_of_the_image(
    cases: dict[str, Rendered],
) -> None:
    assert cases["secure"].container["image"] == "registry.example.com/tickbridge:0.1.0"
    assert cases["secure"].pod["imagePullSecrets"] == [{"name": "registry"}]
    own = {"registry": "own.example.com", "repository": "data/ticks"}
    assert render({"image": own}).container["image"] == "own.example.com/data/ticks:0.1.0"
    both = render({"image": own, "global": {"imageRegistry": "all.example.com"}})
    assert both.container["image"] == "all.example.com/data/ticks:0.1.0"


def test_every_program_in_the_pod_finds_the_settings(default: Rendered) -> None:
    """Also the ones that `kubectl exec` starts."""
    file = {"name": "TICKBRIDGE_CONFIG", "value": "/etc/tickbridge/tickbridge.yaml"}
    assert default.container["env"] == [file]


def test_the_pod_has_what_the_values_add(cases: dict[str, Rendered]) -> None:
    placed = cases["placed"]
    workload, pod = placed.workload, placed.pod
    assert workload["metadata"]["annotations"]["example.com/note"] == "placed"
    assert workload["spec"]["revisionHistoryLimit"] == 1
    assert pod["runtimeClassName"] == "gvisor"
    assert pod["dnsPolicy"] == "None"
    assert pod["dnsConfig"]["nameservers"] == ["10.0.0.10"]
    assert pod["hostAliases"] == [{"ip": "10.0.0.20", "hostnames": ["kafka"]}]
    assert [each["name"] for each in pod["initContainers"]] == ["wait"]
    assert [each["name"] for each in pod["containers"]] == ["tickbridge", "logs"]
    assert placed.container["envFrom"] == [{"configMapRef": {"name": "proxy", "optional": True}}]
    assert "preStop" in placed.container["lifecycle"]


def test_ingress_and_route_lead_to_the_service(cases: dict[str, Rendered]) -> None:
    reached = cases["reached"]
    service = reached.one("Service")
    (path,) = reached.one("Ingress")["spec"]["rules"][0]["http"]["paths"]
    (route,) = reached.one("HTTPRoute")["spec"]["rules"]
    (backend,) = route["backendRefs"]
    assert path["backend"]["service"]["name"] == backend["name"] == service["metadata"]["name"]
    (port,) = service["spec"]["ports"]
    assert (port["name"], port["nodePort"]) == (path["backend"]["service"]["port"]["name"], 30080)
    assert backend["port"] == port["port"] == 80
    assert service["spec"]["loadBalancerClass"] == "example.com/internal"


def test_passwords_come_from_secrets_as_files_and_are_in_no_variable(
    cases: dict[str, Rendered],
) -> None:
    secure = cases["secure"]
    (volume,) = (v for v in secure.pod["volumes"] if v["name"] == "secrets")
    assert volume["projected"]["sources"] == [
        {
            "secret": {
                "name": "tickbridge-kafka",
                "items": [{"key": "password", "path": "kafka__password"}],
            }
        },
        {
            "secret": {
                "name": "tickbridge-redis",
                "items": [{"key": "redis-password", "path": "redis__password"}],
            }
        },
    ]
    assert secure.container["env"] == [
        {"name": "TICKBRIDGE_CONFIG", "value": "/etc/tickbridge/tickbridge.yaml"},
        {"name": "TICKBRIDGE_SECRETS_DIR", "value": "/run/secrets/tickbridge"},
    ]
    assert "password" not in secure.settings


def test_a_claim_is_made_once_and_outlives_the_release(cases: dict[str, Rendered]) -> None:
    claim = cases["placed"].one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"] == {"requests": {"storage": "20Gi"}}
    assert _claim_name(cases["placed"]) == claim["metadata"]["name"]


def test_a_claim_that_exists_is_used_and_none_is_made(cases: dict[str, Rendered]) -> None:
    assert _claim_name(cases["extended"]) == "ticks-data"
    assert cases["extended"].of_kind("PersistentVolumeClaim") == []


def test_the_settings_name_the_volume_and_the_volume_is_there(
    default: Rendered, cases: dict[str, Rendered]
) -> None:
    assert "data_dir" not in default.settings
    assert "data_dir: /var/lib/tickbridge\n" in cases["placed"].settings
    settings = {"data_dir": "/data"}
    elsewhere = render({"settings": settings, "persistence": {"enabled": True}})
    (mount,) = (m for m in elsewhere.container["volumeMounts"] if m["name"] == "data")
    assert mount["mountPath"] == "/data"
    assert "data_dir: /data\n" in elsewhere.settings
    volume = {"name": "fast", "emptyDir": {"sizeLimit": "5Gi"}}
    mounted = {"name": "fast", "mountPath": "/data"}
    render({"settings": settings, "extraVolumes": [volume], "extraVolumeMounts": [mounted]})


def test_it_is_spread_over_the_bridges_of_its_own_release(cases: dict[str, Rendered]) -> None:
    (spread,) = cases["placed"].pod["topologySpreadConstraints"]
    selector = cases["placed"].workload["spec"]["selector"]
    assert spread["labelSelector"] == selector
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"


def test_an_account_of_somebody_elses_is_used_and_none_is_made(
    cases: dict[str, Rendered],
) -> None:
    assert cases["extended"].pod["serviceAccountName"] == "ticks"


def test_only_the_http_port_is_open_and_to_whom_the_values_say(
    default: Rendered, cases: dict[str, Rendered]
) -> None:
    assert default.one("NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"port": "http"}]}]
    (rule,) = cases["monitoring"].one("NetworkPolicy")["spec"]["ingress"]
    assert "from" in rule


def test_an_egress_that_is_limited_always_has_dns(
    default: Rendered, cases: dict[str, Rendered]
) -> None:
    assert default.one("NetworkPolicy")["spec"]["policyTypes"] == ["Ingress"]
    spec = cases["secure"].one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert {p["port"] for rule in spec["egress"] for p in rule["ports"]} == {
        *(53, 443, 9443, 9093, 6379)
    }


def test_a_node_can_be_drained_unless_the_values_say_no(
    default: Rendered, cases: dict[str, Rendered]
) -> None:
    assert default.of_kind("PodDisruptionBudget") == []
    assert cases["placed"].one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 0


def test_the_selectors_of_all_objects_find_the_pod(cases: dict[str, Rendered]) -> None:
    case = cases["monitoring"]
    labels = case.workload["spec"]["template"]["metadata"]["labels"].items()
    policy = case.one("NetworkPolicy")["spec"]["podSelector"]
    assert labels >= policy["matchLabels"].items()
    (names,) = policy["matchExpressions"]
    assert dict(labels)[names["key"]] in names["values"]
    for selector in (
        case.workload["spec"]["selector"]["matchLabels"],
        case.one("Service")["spec"]["selector"],
        cases["placed"].one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    service = case.one("Service")["metadata"]["labels"].items()
    assert case.one("ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= service


def _checksum(rendered: Rendered) -> str:
    template = rendered.workload["spec"]["template"]
    checksum: str = template["metadata"]["annotations"]["checksum/settings"]
    return checksum


def _claim_name(rendered: Rendered) -> str:
    (volume,) = (v for v in rendered.pod["volumes"] if v["name"] == "data")
    name: str = volume["persistentVolumeClaim"]["claimName"]
    return name
