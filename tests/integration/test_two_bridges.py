"""Two bridges with the same topics: the second one takes over, and the first one ends."""

import signal
import socket
from pathlib import Path

import pytest

from bridge.settings import Kafka as KafkaSettings
from bridge.tools.audit.run import audit_topic
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Choice, Kafka, RedisAddress, read_topic

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
BEGIN_MS = 1_790_000_000_000

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("first_is", ["running", "frozen"])
async def test_the_second_takes_over_and_the_first_ends_with_an_error_that_names_it(  # noqa: PLR0917
    brokers: Choice, kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path, first_is: str
) -> None:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that fences; {brokers}")
    market = Market(SYMBOLS, seed=5, begin_ms=BEGIN_MS, trades_per_second=100)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    servers, topic = kafka.bootstrap_servers, f"{unique}.binance.spot.trade"
    async with SimulatedExchange(market) as exchange:
        settings = bridge_settings(
            exchange, servers, redis.url, unique, symbols=SYMBOLS, streams=["trade"]
        )
        async with running_bridge(folders[0], settings) as first:
            await read_topic(servers, topic, expected=100)
            if first_is == "frozen":
                first.process.send_signal(signal.SIGSTOP)
            async with running_bridge(folders[1], settings) as second:
                await second.logged("kafka_connected")
                if first_is == "frozen":
                    first.process.send_signal(signal.SIGCONT)
                failed = await first.logged("failed")
                assert await first.ended() == 4
                owner = f"process {second.process.pid} on {socket.gethostname()}"
                assert owner in failed["error"]
                published = len(await read_topic(servers, topic))
                await read_topic(servers, topic, expected=published + 100)
                assert await second.stop() == 0
    await _assert_whole(servers, unique)


async def _assert_whole(servers: str, unique: str) -> None:
    """Assert that no id is missing, repeated or out of order."""
    options = KafkaSettings.model_validate(
        {"bootstrap_servers": servers, "topic": unique + ".{venue}.{message_type}"}
    )
    report = await audit_topic(options, "trade")
    assert list(report.findings) == []
    assert [stream.symbol for stream in report.symbols] == SYMBOLS
