"""The compose file, started as a user starts it."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
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
SYMBOL = "BTCUSDT"

Compose = Callable[..., str]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def compose(monkeypatch: pytest.MonkeyPatch, unique: str) -> Compose:
    """Return a function that runs `docker compose` in a project and on ports of its own."""
    docker = program("docker")
    for name in list(os.environ):
        if name.startswith(("TICKBRIDGE_", "COMPOSE_")):
            monkeypatch.delenv(name)
    for name in ("KAFKA_PORT", "REDIS_PORT", "HTTP_PORT"):
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
    profile = ("--profile", "simulator")
    try:
        compose(*profile, "up", "--detach", "--wait", "--no-build")
        yield compose
    finally:
        compose(*profile, "down", "--volumes", "--timeout", "5")


def test_a_simulated_tick_is_read_back_from_redis_and_from_kafka(simulated: Compose) -> None:
    (latest,) = json.loads(
        simulated("exec", "-T", "tickbridge", "tickbridge", "price", SYMBOL, "--json")
    )
    assert latest["symbol"] == SYMBOL
    assert _exchange(simulated) == "ws://simulator.internal:9999"
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
    assert _exchange(alone) == "wss://stream.binance.com:9443"


def test_each_profile_adds_its_services_and_there_is_only_one_bridge(compose: Compose) -> None:
    def services(*profiles: str) -> set[str]:
        words = [word for profile in profiles for word in ("--profile", profile)]
        return set(compose(*words, "config", "--services").split())

    usual = {"kafka", "redis", "tickbridge"}
    assert services() == usual
    assert services("simulator") == usual | {"simulator"}
    assert services("monitoring") == usual | {"prometheus", "grafana"}


def test_every_port_is_open_to_this_machine_only(compose: Compose) -> None:
    whole = _config(compose)
    ports = [port for service in whole["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 5
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_our_containers_write_nothing_and_may_do_nothing(compose: Compose) -> None:
    for name in ("tickbridge", "simulator"):
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
    assert [f"/etc/prometheus/{name}" for name in settings["rule_files"]] <= list(sources)
    provisioning = sources["/etc/grafana/provisioning"]
    (provider,) = _yaml(provisioning / "dashboards" / "tickbridge.yaml")["providers"]
    assert any(target.startswith(provider["options"]["path"]) for target in sources)
    (datasource,) = _yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert datasource["url"] == "http://prometheus:9090"


def _exchange(compose: Compose) -> str:
    """Return the WebSocket URL from the environment of the first process of the bridge."""
    script = (
        "import pathlib; from bridge.settings import load_settings; "
        "pairs = pathlib.Path('/proc/1/environ').read_text().split(chr(0)); "
        "environment = dict(pair.split('=', 1) for pair in pairs if pair); "
        "print(load_settings(environment=environment).binance.websocket_url)"
    )
    return compose("exec", "-T", "tickbridge", "python", "-c", script).strip()


def _config(compose: Compose) -> dict[str, Any]:
    profiles = ("--profile", "simulator", "--profile", "monitoring")
    config: dict[str, Any] = json.loads(compose(*profiles, "config", "--format", "json"))
    return config


def _yaml(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    return data
