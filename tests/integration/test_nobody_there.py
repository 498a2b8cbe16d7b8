"""A start without any server: the bridge names the missing servers, waits, and keeps running."""

from pathlib import Path

import aiohttp

from bridge.tools.embedded import LOOPBACK, free_port
from tests.support.bridge_process import running_bridge


async def test_servers_that_are_not_there_are_named_and_the_bridge_is_alive_and_not_ready(
    tmp_path: Path,
) -> None:
    kafka, redis, exchange = (f"{LOOPBACK}:{free_port()}" for _ in range(3))
    settings = {
        "binance": {
            "symbols": ["BTCUSDT"],
            "websocket_url": f"ws://{exchange}",
            "rest_url": f"http://{exchange}",
        },
        "kafka": {"bootstrap_servers": kafka},
        "redis": {"url": f"redis://{redis}/0"},
        "http": {"port": 0},
    }
    async with running_bridge(tmp_path, settings) as bridge:
        for event, server in (
            ("kafka_unavailable", kafka),
            ("redis_unavailable", redis),
            ("symbols_not_checked", exchange),
        ):
            assert server in (await bridge.logged(event))["error"]
        port = (await bridge.logged("http_listening"))["port"]
        async with aiohttp.ClientSession(f"http://{LOOPBACK}:{port}") as session:
            assert (await session.get("/livez")).status == 200
            answer = await session.get("/readyz")
            reasons = await answer.text()
        assert (answer.status, "kafka" in reasons, "redis" in reasons) == (503, True, True)
        assert await bridge.stop() == 0
