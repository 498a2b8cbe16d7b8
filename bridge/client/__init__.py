"""The library for consumers: typed events from Kafka and Redis, and the latest prices.

    async with LatestPrices("redis://localhost:6379/0") as prices:
        btc = await prices.get("BTCUSDT")

    async with KafkaFeed("localhost:9092", "trade", symbols="BTCUSDT") as trades:
        async for trade in trades:
            ...

`bridge.client.sync` has the same without asyncio.

Kafka has every event, in order and once, and the feed checks that. Redis is fast, but a subscriber
that is too slow misses events. A LiveFeed joins the two. Prices and volumes are `Decimal`. Times
are integer microseconds since 1970-01-01 UTC.
"""

from bridge.client.continuity import Finding
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
    SymbolStatus,
    Ticker,
    Trade,
    UnknownMessageType,
    UnreadableEvent,
    decode_event,
)
from bridge.client.frames import to_polars
from bridge.client.kafka import ContinuityBroken, KafkaFeed
from bridge.client.latest import LatestPrice, LatestPrices, UnreadablePrice
from bridge.client.live import LiveFeed
from bridge.client.redis import RedisFeed
from bridge.client.start import FromId

__all__ = [
    "AggTrade",
    "AnyEvent",
    "AveragePrice",
    "BlockTrade",
    "Book",
    "BookDelta",
    "Candle",
    "ContinuityBroken",
    "Event",
    "Finding",
    "ForeignMessage",
    "FromId",
    "Gap",
    "Invalid",
    "KafkaFeed",
    "LatestPrice",
    "LatestPrices",
    "LiveFeed",
    "MiniTicker",
    "Quote",
    "RedisFeed",
    "ReferencePrice",
    "SymbolStatus",
    "Ticker",
    "Trade",
    "UnknownMessageType",
    "UnreadableEvent",
    "UnreadablePrice",
    "decode_event",
    "to_polars",
]
