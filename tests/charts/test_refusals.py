"""Invalid values fail the installation, each with its reason."""

from typing import Any

import pytest

from tests.support.helm import refusal

GROUP: dict[str, Any] = {"settings": {"cluster": {"standby": 1}}}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a typing error in the settings": (
        {"settings": {"kafka": {"bootstap_servers": "kafka:9092"}}},
        "at '/settings/kafka': additional properties 'bootstap_servers' not allowed",
    ),
    "a section that is none": (
        {"settings": {"kafak": {}}},
        "at '/settings': additional properties 'kafak' not allowed",
    ),
    "a setting at the top": ({"kafka": {}}, "additional properties 'kafka' not allowed"),
    "a number out of its bounds": (
        {"settings": {"binance": {"redundancy": 3}}},
        "at '/settings/binance/redundancy': maximum: got 3, want 2",
    ),
    "a text for a number": ({"settings": {"http": {"port": "x"}}}, "at '/settings/http/port'"),
    "a Secret without its key": (
        {"secrets": {"kafka": {"password": {"name": "kafka"}}}},
        "at '/secrets/kafka/password': missing property 'key'",
    ),
    "a Secret for what is none": (
        {"secrets": {"kafka": {"topic": {"name": "kafka", "key": "topic"}}}},
        "at '/secrets/kafka': additional properties 'topic' not allowed",
    ),
    "a digest that is none": ({"image": {"digest": "sha256:1"}}, "at '/image/digest'"),
    "no http section": ({"settings": {"http": None}}, "at '/settings': missing property 'http'"),
    "two bridges": ({"replicas": 2}, "set settings.cluster.standby: 1, or settings.cluster.shards"),
    "a number that follows the load of a lone bridge": (
        {"autoscaling": {"enabled": True}},
        "two bridges that are no group would take the topics from each other",
    ),
    "one name for all bridges": (
        {"settings": {"cluster": {"instance_id": "a"}}},
        "settings.cluster.instance_id: all bridges would have the same name",
    ),
    "one claim for all bridges": (
        GROUP | {"persistence": {"enabled": True, "existingClaim": "data"}},
        "persistence.existingClaim: the bridges of a group cannot share a claim",
    ),
    "a password in the settings": (
        {"settings": {"kafka": {"password": "hunter2"}}},
        "put it into a Secret, and name the Secret under secrets.kafka.password",
    ),
    "a password in a URL": (
        {"settings": {"redis": {"url": "redis://:hunter2@redis:6379/0"}}},
        "put the whole URL into a Secret, and name the Secret under secrets.redis.url",
    ),
    "a status that no probe reaches": (
        {"settings": {"http": {"host": "127.0.0.1"}}},
        "settings.http.host: the probes cannot reach 127.0.0.1",
    ),
    "a variable against the settings that the chart follows": (
        {"extraEnv": [{"name": "TICKBRIDGE_HTTP__PORT", "value": "9"}]},
        "would override settings.http, which ports and probes use",
    ),
    "data without a place for them": (
        {"settings": {"data_dir": "/data"}},
        "settings.data_dir: no volume is mounted at /data",
    ),
    "room for data without a place": (
        {"settings": {"spill_max_bytes": "1GiB"}},
        "settings.spill_max_bytes: has no effect without a data directory",
    ),
    "a memory that a full outbox does not fit in": (
        {"resources": {"limits": {"memory": "300Mi"}}},
        "300Mi cannot hold a full outbox of 256Mi (settings.kafka.outbox_max_bytes)",
    ),
    "an outbox that does not fit in the memory": (
        {
            "settings": {"kafka": {"outbox_max_bytes": "4GiB"}},
            "resources": {"limits": {"memory": "1Gi"}},
        },
        "1Gi cannot hold a full outbox of 4096Mi",
    ),
    "a claim that the records do not fit in": (
        {
            "settings": {"spill_max_bytes": "4GiB"},
            "persistence": {"enabled": True, "size": "1Gi"},
        },
        "4GiB (4294967296 bytes) do not fit in persistence.size, 1Gi (1073741824 bytes)",
    ),
    "a claim that is too small": (
        {"persistence": {"enabled": True, "size": "64Mi"}},
        "persistence.size: 80 % of 64Mi is less than the 64MiB",
    ),
    "less time to stop than to deliver": (
        {"terminationGracePeriodSeconds": 10},
        "terminationGracePeriodSeconds: 10 is less than settings.shutdown_timeout_s (20)",
    ),
    "a change of an alert that is none": (
        {"prometheusRule": {"alerts": {"TickbridgeInvalids": False}}},
        "additional properties 'TickbridgeInvalids' not allowed",
    ),
    "a route without a gateway": ({"httpRoute": {"enabled": True}}, "at '/httpRoute/parentRefs'"),
    "any free port": ({"settings": {"http": {"port": 0}}}, "the probes need a fixed one"),
}


@pytest.mark.parametrize(("values", "reason"), REFUSED.values(), ids=REFUSED)
def test_the_installation_is_refused_and_says_why(values: dict[str, Any], reason: str) -> None:
    said = refusal(values)
    assert reason in said
    assert "hunter2" not in said
