"""Symbols and streams that change at runtime, with a simulated exchange and shared brokers."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

import pytest

from bridge.app.service import Service
from bridge.binance import connector as connectors
from bridge.binance import listing
from bridge.core.sequencing.rules import Sequencer
from bridge.errors import SinkUnavailable
from bridge.settings import Settings, load_settings
from bridge.sinks.kafka import sink as kafka_sink
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.brokers import Kafka, RedisAddress, read_topic
from tests.support.journal import Journal, journal_kept

pytestmark = pytest.mark.timeout(90)

BEGIN_MS = 1_790_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
IDS = {"trade": "trade_id", "agg_trade": "agg_trade_id", "quote": "update_id"}
TIMEOUT_S = 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors, "LOOK_S", 0.05)


class Running:
    """A bridge, and the settings that it reloads after a change."""

    def __init__(self, settings: dict[str, Any], journal: Journal) -> None:
        self.journal = journal
        self._settings = settings
        self._notice: Callable[[], None] = lambda: None
        self.service = Service(self._read(), self)

    def _read(self) -> Settings:
        return load_settings(environment={}, overrides=self._settings)

    async def read(self) -> Settings:
        return self._read()

    @contextmanager
    def noticed(self, notice: Callable[[], None]) -> Iterator[None]:
        self._notice = notice
        yield

    async def change(self, outcome: str = "changed", **binance: Any) -> None:
        """Change the settings, and wait for the outcome of the reload."""
        self._settings["binance"] |= binance
        counts = self.service.status.reloads.outcomes
        before = counts.copy()
        self._notice()
        async with asyncio.timeout(TIMEOUT_S):
            while counts == before:  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0.01)
        assert counts - before == {outcome: 1}

    async def ready(self) -> None:
        """Wait until nothing keeps the bridge from being ready."""
        async with asyncio.timeout(TIMEOUT_S):
            while self.service.status.unready():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)

    async def unready(self, reason: str) -> None:
        """Wait until the bridge is unready for this reason."""
        async with asyncio.timeout(TIMEOUT_S):
            while reason not in self.service.status.unready():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)

    async def settled(self) -> None:
        """Wait until every connection has exactly the streams it should have."""
        feed = self.service.status.feed
        assert feed is not None
        async with asyncio.timeout(TIMEOUT_S):
            while any(  # noqa: ASYNC110 - as above
                len(connector.connections) != 1
                or connector.coverage.is_outdated(connector.connections[0])
                for connector in feed.connectors
            ):
                await asyncio.sleep(0.01)

    def last_id(self, kind: str, symbol: str) -> int:
        """Return the id of the last event that left the pipeline, 0 before the first."""
        for name, sequencer in self._sequencers():
            if (sequencer.message_type, name) == (kind, symbol):
                return sequencer.last_id or 0
        return 0

    def _sequencers(self) -> Iterator[tuple[str, Sequencer]]:
        for shard in self.service.status.shards:
            yield from shard.sequencers.named() if shard.sequencers else ()

    async def flow(self, *streams: tuple[str, str], count: int = 30) -> None:
        """Wait until each of these streams has brought `count` more ids."""
        begin = {stream: self.last_id(*stream) for stream in streams}
        async with asyncio.timeout(TIMEOUT_S):
            for stream in streams:
                while self.last_id(*stream) < begin[stream] + count:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


class Bench:
    """An exchange and brokers that serve one bridge after another."""

    def __init__(
        self, settings: dict[str, Any], kafka: str, topic: str, statuses: dict[str, str]
    ) -> None:
        self.settings = settings
        self.statuses = statuses
        self._kafka = kafka
        self._topic = topic

    @asynccontextmanager
    async def bridge(
        self,
        *symbols: str,
        streams: tuple[str, ...],
        is_killed: bool = False,
        is_open: bool = True,
    ) -> AsyncIterator[Running]:
        binance = self.settings["binance"] | {"symbols": [*symbols], "streams": [*streams]}
        with journal_kept() as journal:
            running = Running(self.settings | {"binance": binance}, journal)
            task = asyncio.create_task(running.service.run())
            await journal.until("kafka_connected")
            if is_open:
                await journal.until("connection_open")
            yield running
            if is_killed:  # before it has written a position
                task.cancel()
                await asyncio.wait((task,))
            else:
                running.service.stop()
                await task

    async def published(self, kind: str) -> dict[str, list[dict[str, Any]]]:
        """Return the events of a topic by symbol. All events of a symbol are in one partition."""
        found = defaultdict(list)
        partitions = defaultdict(set)
        for record in await read_topic(self._kafka, f"{self._topic}.{kind}"):
            event = json.loads(record.value)
            found[event["symbol"]].append(event)
            partitions[event["symbol"]].add(record.partition)
        assert all(len(places) == 1 for places in partitions.values())
        return found

    async def assert_whole(self, kind: str, *symbols: str) -> None:
        """Assert that every id is there once and in order."""
        events = await self.published(kind)
        assert set(events) == set(symbols)
        for symbol in symbols:
            ids = [event[IDS[kind]] for event in events[symbol]]
            assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest.fixture
async def bench(kafka: Kafka, redis: RedisAddress, unique: str) -> AsyncIterator[Bench]:
    market = Market(SYMBOLS, seed=7, begin_ms=BEGIN_MS, trades_per_second=50)
    async with SimulatedExchange(market, speed=5) as exchange:
        settings = {
            "binance": {
                "websocket_url": exchange.websocket_url,
                "rest_url": exchange.rest_url,
                "proxy": "none",
            },
            "kafka": {
                "bootstrap_servers": kafka.bootstrap_servers,
                "topic": f"{unique}.{{message_type}}",
            },
            "redis": {"url": redis.url},
            "http": {"port": 0},
        }
        yield Bench(settings, kafka.bootstrap_servers, unique, exchange.rest.statuses)


async def test_a_symbol_comes_and_the_others_never_notice(bench: Bench) -> None:
    both = ("trade", "bookTicker")
    async with bench.bridge("BTCUSDT", streams=both) as running:
        await running.flow(("trade", "BTCUSDT"))
        await running.change(symbols=["BTCUSDT", "ETHUSDT"])
        await running.flow(("trade", "ETHUSDT"), ("quote", "ETHUSDT"), ("trade", "BTCUSDT"))
        status = running.service.status
        assert status.counts.gaps == {}
        assert status.counts.repaired == {}
        assert status.unready() == []
        (entry,) = running.journal.named("settings_read")
        assert entry["added"] == ["ethusdt@trade", "ethusdt@bookTicker"]
    await bench.assert_whole("trade", "BTCUSDT", "ETHUSDT")


async def test_a_symbol_that_goes_and_comes_again_has_all_its_trades(bench: Bench) -> None:
    async with bench.bridge("BTCUSDT", "ETHUSDT", streams=("trade", "bookTicker")) as running:
        await running.flow(("trade", "ETHUSDT"), ("quote", "ETHUSDT"))
        await running.change(symbols=["BTCUSDT"])
        stopped_at = running.service.status.counts.received.copy()
        await running.settled()
        await running.flow(("trade", "BTCUSDT"), count=100)
        assert running.last_id("trade", "ETHUSDT") == 0
        await running.change(symbols=["BTCUSDT", "ETHUSDT"])
        await running.flow(("trade", "ETHUSDT"), ("quote", "ETHUSDT"))
        counts = running.service.status.counts
        assert counts.repaired["trade"] > 0
        assert counts.gaps == {"lost": 1}
        assert counts.received["trade"] > stopped_at["trade"]
        (gap,) = running.journal.named("gap")
        assert (gap["symbol"], gap["message_type"], gap["cause"]) == (
            "ETHUSDT",
            "quote",
            "unsubscribed",
        )
    await bench.assert_whole("trade", "BTCUSDT", "ETHUSDT")
    assert list(await bench.published("gap")) == ["ETHUSDT"]
    for events in (await bench.published("quote")).values():
        ids = [event["update_id"] for event in events]
        assert ids == sorted(set(ids))


async def test_a_stream_of_a_new_message_type_has_its_topic_and_the_price_its_source(
    bench: Bench,
) -> None:
    async with bench.bridge("BTCUSDT", streams=("trade",)) as running:
        await running.flow(("trade", "BTCUSDT"))
        await running.change(streams=["trade", "aggTrade", "bookTicker"])
        await running.flow(("agg_trade", "BTCUSDT"), ("quote", "BTCUSDT"))
        assert {"agg_trade", "quote"} < set(running.service.status.message_types)
        assert len(running.journal.named("kafka_connected")) == 1
    await bench.assert_whole("trade", "BTCUSDT")
    await bench.assert_whole("agg_trade", "BTCUSDT")
    assert (await bench.published("quote"))["BTCUSDT"]


@pytest.mark.parametrize("streams", [("trade",), ("aggTrade",)], ids=["same_type", "new_type"])
async def test_what_an_earlier_process_has_published_is_not_repeated_nor_left_with_a_hole(
    bench: Bench, streams: tuple[str, ...]
) -> None:
    kind = {"trade": "trade", "aggTrade": "agg_trade"}[streams[0]]
    async with bench.bridge("BTCUSDT", "ETHUSDT", streams=streams, is_killed=True) as running:
        await running.flow((kind, "BTCUSDT"), (kind, "ETHUSDT"))
    async with bench.bridge("BTCUSDT", streams=("trade",)) as running:
        await running.flow(("trade", "BTCUSDT"))
        await running.change(symbols=["BTCUSDT", "ETHUSDT"], streams=["trade", *streams])
        await running.flow((kind, "BTCUSDT"), (kind, "ETHUSDT"))
    await bench.assert_whole(kind, "BTCUSDT", "ETHUSDT")
    await bench.assert_whole("trade", "BTCUSDT", "ETHUSDT")


async def test_a_symbol_the_exchange_does_not_list_is_named_and_the_others_come(
    bench: Bench,
) -> None:
    async with bench.bridge("BTCUSDT", streams=("trade",)) as running:
        await running.change("refused", symbols=["ETHUSD"])
        (entry,) = running.journal.named("settings_refused")
        assert "'ETHUSD'; did you mean 'ETHUSDT'" in entry["error"]
        await running.flow(("trade", "BTCUSDT"))
        await running.change(symbols=["BTCUSDT", "ETHUSD", "BNBUSDT"])
        await running.flow(("trade", "BNBUSDT"))
        (sentence,) = running.service.status.subscription().refused
        assert "'ETHUSD'" in sentence
    await bench.assert_whole("trade", "BTCUSDT", "BNBUSDT")


async def test_settings_that_are_none_leave_everything_as_it_is(bench: Bench) -> None:
    async with bench.bridge("BTCUSDT", streams=("trade",)) as running:
        await running.change("invalid", streams=["trad"])
        (entry,) = running.journal.named("settings_invalid")
        assert "binance.streams" in entry["error"]
        assert "'trade'" in entry["error"]
        await running.flow(("trade", "BTCUSDT"))
        assert running.service.status.counts.gaps == {}
        await running.change(streams=["trade", "bookTicker"])
        await running.flow(("quote", "BTCUSDT"))


async def test_a_pattern_is_asked_for_again(bench: Bench) -> None:
    async with bench.bridge("B*USDT", streams=("trade",)) as running:
        await running.flow(("trade", "BTCUSDT"), ("trade", "BNBUSDT"))
        await running.change("unchanged")
        await running.change(symbols=["*USDT"])
        await running.flow(("trade", "ETHUSDT"))
    await bench.assert_whole("trade", *SYMBOLS)


async def test_symbols_that_wait_at_the_start_are_subscribed_to_when_they_trade(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trades since the last process are fetched, although the symbols were in BREAK since."""
    async with bench.bridge("*USDT", streams=("trade",)) as running:
        await running.flow(*(("trade", symbol) for symbol in SYMBOLS))
    monkeypatch.setattr(listing, "INTERVAL_S", 0.1)
    bench.statuses |= dict.fromkeys(SYMBOLS, "BREAK")
    async with bench.bridge("*USDT", streams=("trade",), is_open=False) as running:
        await running.unready("feed: it has no streams yet")
        status = running.service.status
        bench.statuses["BTCUSDT"] = "TRADING"
        await running.flow(("trade", "BTCUSDT"))
        assert status.subscription().waiting == []
        await running.ready()  # the trades since the last process may come first, over REST
        bench.statuses.clear()
        await running.flow(*(("trade", symbol) for symbol in SYMBOLS))
        assert [entry["streams_added"] for entry in running.journal.named("streams_changed")] == [
            *(1, 2)
        ]
        assert status.counts.gaps == {}
    await bench.assert_whole("trade", *SYMBOLS)


@pytest.mark.parametrize("status", ["BREAK", "HALT"])
async def test_a_reload_in_maintenance_touches_no_stream(bench: Bench, status: str) -> None:
    async with bench.bridge("*USDT", streams=("trade",)) as running:
        await running.flow(*(("trade", symbol) for symbol in SYMBOLS))
        bench.statuses |= dict.fromkeys(SYMBOLS, status)
        await running.change("unchanged")
        await running.flow(*(("trade", symbol) for symbol in SYMBOLS))
    await bench.assert_whole("trade", *SYMBOLS)


async def test_without_kafka_symbols_come_for_redis_and_are_delivered_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on startup, the next producer creates the topics."""
    async with bench.bridge("BTCUSDT", streams=("trade",)) as running:
        monkeypatch.setattr(kafka_sink, "open_producer", _kafka_is_away)
        kafka, _ = running.service.status.shards[0].sinks
        assert isinstance(kafka, kafka_sink.KafkaSink)
        session = kafka._session
        assert session is not None
        session.fail(SinkUnavailable("away"))
        await running.journal.until("kafka_unavailable")
        await running.change(streams=["trade", "aggTrade"])
        await running.flow(("agg_trade", "BTCUSDT"))
        monkeypatch.undo()
        await running.journal.until("kafka_connected", 2)
        await running.flow(("agg_trade", "BTCUSDT"))
    await bench.assert_whole("agg_trade", "BTCUSDT")


async def _kafka_is_away(*_: object) -> NoReturn:
    raise SinkUnavailable("away")
