"""The library for consumers: typed events from Kafka and Redis, and the latest prices.

    async with LatestPrices("redis://localhost:6379/0") as prices:
        btc = await prices.get("BTCUSDT")

    async for trade in kafka_events("localhost:9092", ["trade"], symbols=["BTCUSDT"]):
        ...

Kafka has every event, in order and once. Redis is fast, but a subscriber that is too slow misses
events. Prices and volumes are `Decimal`. Times are integer microseconds since 1970-01-01 UTC.
"""

from bridge.client.events import (
    AggTrade,
    AnyEvent,
    AveragePrice,
    BlockTrade,
    Book,
    BookDelta,
    Candle,
    Event,
    ForeignMessage,
    Gap,
    Invalid,
    MiniTicker,
    Quote,
    ReferencePrice,
    Ticker,
    Trade,
    UnknownMessageType,
    UnreadableEvent,
    decode_event,
)
from bridge.client.kafka import KafkaReader, kafka_events
from bridge.client.latest import LatestPrice, LatestPrices
from bridge.client.redis import RedisReader, redis_events

__all__ = [
    "AggTrade",
    "AnyEvent",
    "AveragePrice",
    "BlockTrade",
    "Book",
    "BookDelta",
    "Candle",
    "Event",
    "ForeignMessage",
    "Gap",
    "Invalid",
    "KafkaReader",
    "LatestPrice",
    "LatestPrices",
    "MiniTicker",
    "Quote",
    "RedisReader",
    "ReferencePrice",
    "Ticker",
    "Trade",
    "UnknownMessageType",
    "UnreadableEvent",
    "decode_event",
    "kafka_events",
    "redis_events",
]
