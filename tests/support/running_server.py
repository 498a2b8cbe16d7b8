"""A bridge at rest, for what is told of it."""

import asyncio

import structlog

from bridge.binance.connection import Session
from bridge.binance.connector import Leg
from bridge.binance.feed import Feed
from bridge.binance.rate_limit import Gate
from bridge.core.model.stream import SPOT, parse_stream
from bridge.core.records.record import Router
from bridge.core.sequencing.sequencers import Tracks
from bridge.monitoring.status import Status
from bridge.pipeline.pipeline import Pipeline
from bridge.pipeline.sink import Sink
from bridge.settings import load_settings
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.sink import RedisSink
from tests.support.exchange import trade

KINDS = ["trade", "gap", "invalid"]
NAMES = ("btcusdt@trade", "ethusdt@trade")
RECEIVED = 1_790_000_000_000_000


class Running:
    """A bridge at rest: sinks that never run, one leg that is not connected."""

    def __init__(self, legs: int = 1) -> None:
        binance = {"symbols": ["BTCUSDT"], "legs": legs}
        settings = load_settings(environment={}, overrides={"binance": binance})
        self.kafka = KafkaSink(settings.kafka, [], "position")
        self.redis = RedisSink(settings.redis, SPOT)
        sinks: tuple[Sink, ...] = (self.kafka, self.redis)
        self.status = Status(KINDS, sinks)
        streams = [parse_stream(name) for name in NAMES]
        tracks = Tracks(streams)
        self.pipeline = Pipeline(SPOT, Router(streams, "{message_type}"), tracks, sinks)
        self.status.counts = self.pipeline.counts
        self.tracks = tracks
        self.feed = Feed(settings.binance, streams, self.pipeline, Gate())

    def flow(self, *, heard: bool = True) -> None:
        """Everything as it should be; or no stream has been `heard` yet."""
        self.status.feed, self.status.tracks = self.feed, self.tracks
        self.kafka._ready = self.redis._ready = True
        (leg,) = self.feed.legs
        self.session = self.open(leg)
        if heard:
            self.session.frames([trade(1).encode()], RECEIVED)

    def open(self, leg: Leg) -> Session:
        """A connection of the leg that has just opened, on nothing."""
        session = Session(leg.label, leg.streams, self.pipeline, structlog.get_logger())
        session.attach(leg.arrivals, leg._lost)
        session.opened_s = asyncio.get_running_loop().time()
        leg._take_over(session)
        return session
