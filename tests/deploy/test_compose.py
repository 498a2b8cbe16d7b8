"""The compose file, started as a user starts it."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from bridge.tools.embedded import free_port
from tests.support.brokers import read_topic
from tests.support.containers import OurContainer
from tests.support.programs import missing, output, program

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
UP_TIMEOUT_S = 180
ROLES_TIMEOUT_S = 60
SYMBOL = "BTCUSDT"
GAP_TOPIC = "binance.spot.gap"
# The services of the two bridges, by the names that these have in their group.
BRIDGES = {"tickbridge-1": "tickbridge", "tickbridge-2": "tickbridge-2"}

Compose = Callable[..., str]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def compose(monkeypatch: pytest.MonkeyPatch, unique: str) -> Compose:
    """Return a function that runs `docker compose` in a project and on ports of its own."""
    docker = program("docker")
    for name in list(os.environ):
        if name.startswith(("TICKBRIDGE_", "COMPOSE_")):
            monkeypatch.delenv(name)
    for name in ("KAFKA_PORT", "REDIS_PORT", "HTTP_PORT", "HTTP_PORT_2"):
        monkeypatch.setenv(name, str(free_port()))

    def call(*words: str) -> str:
        file = ("--file", str(FILE), "--project-name", unique)
        return output(docker, "compose", *file, *words, timeout_s=UP_TIMEOUT_S)

    try:
        call("version")
    except pytest.fail.Exception as error:
        missing(f"no docker compose: {error}")
    return call


@pytest.fixture
def alone(compose: Compose, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compose]:
    """Start the bridge without the simulator and without its brokers."""
    monkeypatch.setenv("IMAGE", image)
    try:
        compose("up", "--detach", "--no-deps", "--no-build", "tickbridge")
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "5")


@pytest.fixture
def simulated(compose: Compose, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compose]:
    """Start the profile `simulator`, and wait until it is healthy."""
    monkeypatch.setenv("IMAGE", image)
    with _healthy(compose, "simulator"):
        yield compose


@pytest.fixture
def cluster(compose: Compose, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compose]:
    """Start two bridges and the simulator, and wait until they are healthy."""
    monkeypatch.setenv("IMAGE", image)
    with _healthy(compose, "simulator", "cluster"):
        yield compose


@contextmanager
def _healthy(compose: Compose, *profiles: str) -> Iterator[None]:
    """Start profiles, and wait until all of their services are healthy."""
    words = _words(profiles)
    try:
        compose(*words, "up", "--detach", "--wait", "--no-build")
        yield
    finally:
        compose(*words, "down", "--volumes", "--timeout", "5")


def test_a_simulated_tick_is_read_back_from_redis_and_from_kafka(simulated: Compose) -> None:
    (latest,) = json.loads(
        simulated("exec", "-T", "tickbridge", "tickbridge", "price", SYMBOL, "--json")
    )
    assert latest["symbol"] == SYMBOL
    settings = _settings(simulated)
    assert settings["binance"]["websocket_url"] == "ws://simulator.internal:9999"
    assert settings["cluster"]["standby"] == 0
    for path in ("", "dashboard.js"):
        with urlopen(f"http://127.0.0.1:{os.environ['HTTP_PORT']}/{path}") as page:
            assert b"Tickbridge" in page.read()
    assert "PROVEN" in simulated("exec", "-T", "tickbridge", "tickbridge", "audit")
    simulated("stop", "tickbridge")  # which delivers the waiting records
    records = asyncio.run(read_topic(f"localhost:{os.environ['KAFKA_PORT']}", "binance.spot.trade"))
    trades = [json.loads(record.value) for record in records]
    (same,) = (t for t in trades if (t["symbol"], t["trade_id"]) == (SYMBOL, latest["trade_id"]))
    assert same["price"] == latest["price"]


def test_without_the_simulator_the_bridge_is_fed_by_binance(alone: Compose) -> None:
    OurContainer(alone("ps", "--quiet", "tickbridge").strip()).logged("http_listening")
    settings = _settings(alone)
    assert settings["binance"]["websocket_url"] == "wss://stream.binance.com:9443"
    assert settings["cluster"]["standby"] == 0


def test_one_of_two_bridges_is_killed_and_the_other_continues_without_a_gap(
    cluster: Compose,
) -> None:
    _wait_until(lambda: set(_roles(cluster, "tickbridge")) == BRIDGES.keys())
    owner, standby = _roles(cluster, "tickbridge")
    remaining = BRIDGES[standby]
    cluster("kill", BRIDGES[owner])
    _wait_until(lambda: _roles(cluster, remaining) == (standby, ""))
    published = _audit(cluster, remaining)["records"]
    _wait_until(lambda: _audit(cluster, remaining)["records"] > published)
    cluster("start", BRIDGES[owner])
    _wait_until(lambda: set(_roles(cluster, remaining)) == BRIDGES.keys())
    assert _audit(cluster, remaining)["verdict"] == "ok"
    assert asyncio.run(read_topic(f"localhost:{os.environ['KAFKA_PORT']}", GAP_TOPIC)) == []


def test_each_profile_adds_its_services_and_only_one_adds_a_bridge(compose: Compose) -> None:
    def services(*profiles: str) -> set[str]:
        return set(compose(*_words(profiles), "config", "--services").split())

    usual = {"kafka", "redis", "tickbridge"}
    assert services() == usual
    assert services("simulator") == usual | {"simulator"}
    assert services("cluster") == usual | {"tickbridge-2"}
    assert services("monitoring") == usual | {"prometheus", "grafana"}


def test_every_port_is_open_to_this_machine_only(compose: Compose) -> None:
    whole = _config(compose)
    ports = [port for service in whole["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 6
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_our_containers_write_nothing_and_may_do_nothing(compose: Compose) -> None:
    for name in ("tickbridge", "tickbridge-2", "simulator"):
        service = _config(compose)["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_prometheus_and_grafana_are_given_files_that_exist(compose: Compose) -> None:
    services = _config(compose)["services"]
    sources = {
        volume["target"]: Path(volume["source"])
        for name in ("prometheus", "grafana")
        for volume in services[name]["volumes"]
        if volume["type"] == "bind"
    }
    assert all(path.exists() for path in sources.values())
    settings = yaml.safe_load(sources["/etc/prometheus/prometheus.yml"].read_text())
    (job,) = settings["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["tickbridge:8080"]}]
    (found_by_name,) = job["dns_sd_configs"]
    assert found_by_name["names"] == ["tickbridge-2"]
    assert set(found_by_name["names"]) <= services.keys()
    assert [f"/etc/prometheus/{name}" for name in settings["rule_files"]] <= list(sources)
    provisioning = sources["/etc/grafana/provisioning"]
    (provider,) = _yaml(provisioning / "dashboards" / "tickbridge.yaml")["providers"]
    assert any(target.startswith(provider["options"]["path"]) for target in sources)
    (datasource,) = _yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert datasource["url"] == "http://prometheus:9090"


def _wait_until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + ROLES_TIMEOUT_S
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.2)


def _roles(compose: Compose, service: str) -> tuple[str, str]:
    """Return the names of the live owner and of the ready standby, as the bridge of a service
    shows them; an empty name if there is none.
    """
    script = "tickbridge status --cluster --json || true"  # fails while one of them is missing
    answer = compose("exec", "-T", service, "sh", "-c", script)
    shards = json.loads(answer)["shards"] if answer else []
    (shard,) = shards or [{"owner": None, "standby": None}]
    return _name(shard["owner"], "live"), _name(shard["standby"], "ready")


def _name(found: dict[str, Any] | None, state: str) -> str:
    return str(found["name"]) if found and found["state"] == state else ""


def _audit(compose: Compose, service: str) -> dict[str, Any]:
    """Return the report of an audit of the trades, which finds no fault."""
    words = ("tickbridge", "audit", "--kind", "trade", "--json")
    report: dict[str, Any] = json.loads(compose("exec", "-T", service, *words))
    return report


def _settings(compose: Compose) -> dict[str, Any]:
    """Return the settings of the first bridge."""
    shown: dict[str, Any] = yaml.safe_load(
        compose("exec", "-T", "tickbridge", "tickbridge", "config", "show")
    )
    return shown


def _config(compose: Compose) -> dict[str, Any]:
    words = _words(("simulator", "cluster", "monitoring"))
    config: dict[str, Any] = json.loads(compose(*words, "config", "--format", "json"))
    return config


def _words(profiles: Sequence[str]) -> list[str]:
    return [word for profile in profiles for word in ("--profile", profile)]


def _yaml(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    return data
