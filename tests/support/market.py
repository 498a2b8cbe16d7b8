"""A bridge with embedded brokers and a simulated market, for programs that read its data."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.tools.embedded import EmbeddedKafka, EmbeddedRedis
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import running_bridge

SYMBOLS = ["BTCUSDT", "ETHUSDT"]


@dataclass(frozen=True)
class Addresses:
    """`kafka` is `host:port`; the others are URLs."""

    kafka: str
    redis: str
    http: str
    websocket: str
    rest: str


@asynccontextmanager
async def market(folder: Path) -> AsyncIterator[Addresses]:
    """Run a bridge; yield the addresses of its brokers when it has connected to Kafka."""
    source = Market(SYMBOLS, trades_per_second=50)
    with EmbeddedKafka() as kafka, EmbeddedRedis() as redis:
        async with SimulatedExchange(source) as exchange:
            urls = {"websocket_url": exchange.websocket_url, "rest_url": exchange.rest_url}
            settings = {
                "binance": {"symbols": SYMBOLS, "streams": ["trade", "bookTicker"], **urls},
                # Not zstd, which some consumers cannot read.
                "kafka": {
                    "bootstrap_servers": kafka.bootstrap_servers,
                    "create_topics": False,
                    "compression": "gzip",
                },
                "redis": {"url": redis.url},
                "http": {"port": 0},
                "status": {"interval_s": 1},
            }
            async with running_bridge(folder, settings) as bridge:
                port = (await bridge.logged("http_listening"))["port"]
                await bridge.logged("kafka_connected")
                yield Addresses(
                    kafka.bootstrap_servers,
                    redis.url,
                    f"http://127.0.0.1:{port}",
                    exchange.websocket_url,
                    exchange.rest_url,
                )
