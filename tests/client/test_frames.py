"""`to_polars`: the events of a time range as one frame."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from bridge import settings
from bridge.client import to_polars
from bridge.errors import SinkUnavailable
from tests.support.brokers import Kafka
from tests.support.publishing import kafka_options, publish, trade

FIRST = datetime(2024, 8, 8, 23, 54, 14, 87000, UTC)
END = datetime(2024, 8, 9, tzinfo=UTC)


@pytest.fixture
async def options(real_kafka: Kafka, unique: str) -> settings.Kafka:
    """Return the options of topics with 100 trades of two symbols, one each microsecond."""
    options = kafka_options(real_kafka, unique)
    trades = [trade(symbol, n) for n in range(50) for symbol in ("BTCUSDT", "ETHUSDT")]
    await publish(options, trades, at_their_time=True)
    return options


async def test_a_frame_has_the_events_of_the_time_range(options: settings.Kafka) -> None:
    begin, end = FIRST + timedelta(microseconds=10), FIRST + timedelta(microseconds=20)
    frame = await to_polars(options, "trade", start=begin, end=end)
    of_btc = frame.filter(pl.col("symbol") == "BTCUSDT")
    assert (frame.height, of_btc["trade_id"].to_list()) == (20, [*range(10, 20)])
    assert of_btc["timestamp"][0] == begin
    assert of_btc["price"].unique().to_list() == [Decimal("61837.63")]


async def test_a_frame_has_only_the_symbols_asked_for(options: settings.Kafka) -> None:
    frame = await to_polars(options, "trade", start=FIRST, end=END, symbols="ethusdt")
    assert frame["symbol"].unique().to_list() == ["ETHUSDT"]
    assert frame.height == 50


async def test_a_time_range_without_events_is_an_empty_frame(options: settings.Kafka) -> None:
    now = datetime.now(UTC)
    frame = await to_polars(options, "trade", start=now - timedelta(1), end=now)
    assert (frame.height, frame.schema["price"]) == (0, pl.Decimal(38, 18))


async def test_an_absent_topic_is_named(options: settings.Kafka) -> None:
    with pytest.raises(SinkUnavailable, match=r"no topic \S+\.block_trade"):
        await to_polars(options, "block_trade", start=FIRST, end=END)


@pytest.mark.parametrize(
    ("message_type", "start", "named"),
    [
        ("trade", datetime(2024, 8, 8), "start 2024-08-08 00:00:00 has no time zone"),  # noqa: DTZ001
        ("trade", END, "start 2024-08-09 00:00:00.* is not before end 2024-08-09 00:00:00"),
        ("trad", FIRST, "did you mean 'trade'"),
    ],
)
async def test_a_wrong_argument_is_named(message_type: str, start: datetime, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        await to_polars("localhost:9092", message_type, start=start, end=END)
