"""Sizes follow from the settings unless the values name them."""

from typing import Any

import pytest

from bridge.settings import load_settings
from bridge.settings.room import PROCESS_BYTES
from tests.support.helm import CHART, Rendered, render

GIB = 2**30


def resources(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = render(values).container["resources"]
    return found


def test_memory_follows_from_the_outbox(default: Rendered) -> None:
    assert default.container["resources"] == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"memory": "1024Mi"},
    }
    larger = resources({"settings": {"kafka": {"outbox_max_bytes": "1GiB"}}})
    assert larger["requests"]["memory"] == "1280Mi"
    assert larger["limits"]["memory"] == "2560Mi"


@pytest.mark.parametrize(
    ("given", "request_memory", "limit_memory"),
    [
        ({"limits": {"memory": "400Mi"}}, "400Mi", "400Mi"),
        ({"limits": {"memory": "4Gi"}}, "512Mi", "4Gi"),
        ({"requests": {"memory": "2G"}}, "2G", "1908Mi"),
        ({"requests": {"memory": "600Mi"}}, "600Mi", "1024Mi"),
    ],
)
def test_what_is_given_stays_and_the_rest_fits_to_it(
    given: dict[str, Any], request_memory: str, limit_memory: str
) -> None:
    found = resources({"resources": given})
    assert found["requests"]["memory"] == request_memory
    assert found["limits"]["memory"] == limit_memory
    assert found["requests"]["cpu"] == "250m"


@pytest.mark.parametrize(
    "size", [268435456, "256MiB", "256mib", "256 MiB", "268435456B", "0.25GiB", "268435.456KB"]
)
def test_a_size_means_what_it_means_in_the_settings(size: str | int) -> None:
    overrides = {"binance": {"symbols": ["BTCUSDT"]}, "kafka": {"outbox_max_bytes": size}}
    settings = load_settings(environment={}, overrides=overrides)
    assert settings.kafka.outbox_max_bytes == 256 * 2**20
    values = {"settings": {"kafka": {"outbox_max_bytes": size}}}
    assert resources(values)["limits"]["memory"] == "1024Mi"


def test_four_fifths_of_the_claim_are_used_unless_the_settings_say_how_much() -> None:
    claim = {"enabled": True, "size": "10Gi"}
    assert f"spill_max_bytes: {8 * GIB}\n" in render({"persistence": claim}).settings
    given = {"persistence": claim, "settings": {"spill_max_bytes": "9GiB"}}
    assert "spill_max_bytes: 9GiB\n" in render(given).settings


def test_a_claim_that_exists_has_a_size_that_the_chart_does_not_know(
    cases: dict[str, Rendered],
) -> None:
    assert "spill_max_bytes" not in cases["extended"].settings


def test_the_chart_refuses_the_memory_that_the_bridge_refuses() -> None:
    assert str(PROCESS_BYTES) in (CHART / "templates" / "_sizes.tpl").read_text()
