"""A bridge at rest, for tests of what it reports."""

import asyncio
from unittest.mock import Mock

import structlog

from bridge.binance.connection import Connection
from bridge.binance.connector import Connector
from bridge.binance.feed import Feed
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.shard import WHOLE
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.core.sequencing.sequencers import Sequencers
from bridge.monitoring.recent import Recent
from bridge.monitoring.shards import ShardStatus
from bridge.monitoring.status import Status
from bridge.pipeline.pipeline import Pipeline
from bridge.settings import Settings, load_settings
from bridge.sinks.kafka.owner import Role
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.sinks.redis.sink import RedisSink
from bridge.telemetry import now_us
from tests.support.exchange import trade

KINDS = ["trade", "gap", "invalid"]
NAMES = ("btcusdt@trade", "ethusdt@trade")


def sinks_at_rest(
    status: Status, settings: Settings, store: ChunkStore | None = None
) -> tuple[KafkaSink, RedisSink]:
    """Add a shard with sinks that never run to a status, and return them."""
    sinks = (
        KafkaSink(settings.kafka, [], store=store, counts=status.kafka.counts),
        RedisSink(settings.redis, SPOT, counts=status.redis.counts),
    )
    status.shards.append(ShardStatus(WHOLE, Role(), sinks))
    return sinks


class Running:
    """A bridge at rest: sinks that never run, one connector that is not connected."""

    def __init__(self, connectors: int = 1) -> None:
        binance = {"symbols": ["BTCUSDT"], "redundancy": connectors}
        settings = load_settings(environment={}, overrides={"binance": binance})
        self.status = Status(KINDS)
        self.kafka, self.redis = sinks = sinks_at_rest(self.status, settings)
        self.shard = self.status.shards[0]
        streams = [parse_stream(name) for name in NAMES]
        sequencers = Sequencers(streams)
        self.pipeline = Pipeline(SPOT, Router(streams, "{message_type}"), sequencers, sinks)
        self.status.counts = self.pipeline.counts
        self.status.recent = Recent(self.status, 0.0)
        self.sequencers = sequencers
        self.feed = Feed(settings.binance)
        self.feed.add(self.pipeline, streams)

    def flow(self, *, heard: bool = True) -> None:
        """Let everything work; if not `heard`, no stream has sent anything yet."""
        self.status.feed, self.shard.sequencers = self.feed, self.sequencers
        self.connect()
        (connector,) = self.feed.connectors
        self.connection = self.open(connector)
        if heard:
            self.connection.on_frames([trade(1).encode()], now_us())

    def connect(self, *, kafka: bool = True, redis: bool = True) -> None:
        """Set which sinks are connected."""
        self.kafka._session = Mock() if kafka else None
        self.redis._ready = redis

    def open(self, connector: Connector) -> Connection:
        """Return a connection of the connector that has just opened, without a transport."""
        connection = Connection(
            connector.line, connector.streams, self.pipeline, structlog.get_logger()
        )
        connection.attach(connector.arrivals, connector._lost)
        connection.opened_s = asyncio.get_running_loop().time()
        connector._take_over(connection)
        return connection
