"""The container of the rendered chart, run by Docker instead of the kubelet."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.tools.embedded import free_port
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.brokers import Choice, Kafka, RedisAddress, read_topic
from tests.support.containers import OurContainer, running
from tests.support.helm import Rendered, render
from tests.support.mounting import lay_out

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
DATA_DIR = "/var/lib/tickbridge"
MARKET_BEGIN_MS = 1_760_000_000_000

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def servers(brokers: Choice, kafka: Kafka, redis: RedisAddress) -> tuple[Kafka, RedisAddress]:
    if brokers.kind == "embedded":
        pytest.skip(f"needs Docker; {brokers}")
    return kafka, redis


def docker_words(rendered: Rendered, mounts: dict[str, Path]) -> list[str]:
    """Return the arguments of `docker run` that match the container of the pod."""
    pod, container = rendered.pod["securityContext"], rendered.container
    own = container["securityContext"]
    words = ["--network", "host", "--user", f"{pod['runAsUser']}:{pod['runAsGroup']}"]
    words += ["--group-add", str(pod["fsGroup"])]
    words += ["--memory", container["resources"]["limits"]["memory"].removesuffix("i").lower()]
    words += [f"--cap-drop={name}" for name in own["capabilities"]["drop"]]
    if own["readOnlyRootFilesystem"]:
        words.append("--read-only")
    if not own["allowPrivilegeEscalation"]:
        words.append("--security-opt=no-new-privileges")
    for path, folder in mounts.items():
        words += ["--volume", f"{folder}:{path}{'' if path == DATA_DIR else ':ro'}"]
    for variable in container.get("env", ()):
        words += ["--env", f"{variable['name']}={variable['value']}"]
    return [*words, container["image"], *container["args"]]


async def passes(probe: dict[str, Any], port: int) -> None:
    """Run a probe at its own period until it succeeds. Raises TimeoutError."""
    url = f"http://127.0.0.1:{port}{probe['httpGet']['path']}"
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.ok:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)


async def test_the_rendered_container_becomes_ready_publishes_and_ends_in_time(
    servers: tuple[Kafka, RedisAddress], image: str, unique: str, tmp_path: Path
) -> None:
    kafka, redis = servers
    port = free_port()
    market = Market(SYMBOLS, seed=7, begin_ms=MARKET_BEGIN_MS, trades_per_second=50)
    async with SimulatedExchange(market) as exchange:
        rendered = await asyncio.to_thread(render, _values(exchange, kafka, port, unique))
        rendered.container["image"] = image
        mounts = lay_out(rendered, tmp_path, {"url": redis.url})
        mounts[DATA_DIR].chmod(0o777)  # the kubelet makes it writable for fsGroup
        with running(*docker_words(rendered, mounts)) as container:
            await _becomes_ready(rendered, container, port)
            records = await read_topic(
                kafka.bootstrap_servers, f"{unique}.binance.spot.trade", expected=100
            )
            assert {record.key.decode() for record in records} == set(SYMBOLS)
            for words in (("price", *SYMBOLS), ("status",)):  # the commands of the chart's notes
                container.call("tickbridge", *words)
            assert any(mounts[DATA_DIR].iterdir())
            code, seconds = await asyncio.to_thread(container.stop)
    assert code == 0
    assert seconds < rendered.pod["terminationGracePeriodSeconds"]


async def _becomes_ready(rendered: Rendered, container: OurContainer, port: int) -> None:
    try:
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            await passes(rendered.container[name], port)
    except TimeoutError:
        pytest.fail(container.log())


def _values(exchange: SimulatedExchange, kafka: Kafka, port: int, unique: str) -> dict[str, Any]:
    """Return values whose Redis URL is valid only in the Secret, not in `settings`."""
    return {
        "settings": {
            "binance": {
                "websocket_url": exchange.websocket_url,
                "rest_url": exchange.rest_url,
                "symbols": SYMBOLS,
            },
            "kafka": {
                "bootstrap_servers": kafka.bootstrap_servers,
                "topic": unique + ".{venue}.{message_type}",
                "retention_ms": -1,
            },
            "redis": {"url": "redis://nowhere.invalid:6379/0"},
            "http": {"port": port},
        },
        "persistence": {"enabled": True},
        "secrets": {"redis": {"url": {"name": "cache", "key": "url"}}},
    }
