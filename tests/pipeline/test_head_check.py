"""The exchange's last ids show what is missing, although no further event comes. Virtual time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import pytest

from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import Event, Trade
from bridge.core.model.stream import Stream
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.rules import Head
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import FeedRefused, FeedUnavailable
from bridge.pipeline.head_check import LEAST_INTERVAL_S, SETTLE_S, HeadCheck
from bridge.telemetry import FeedCounts
from tests.support.journal import Journal
from tests.support.virtual_time import VirtualTimeLoop

VENUE = "binance.spot"
INTERVAL_S = 60.0
# Longer than one check.
CHECKED_S = SETTLE_S + 1


class Exchange:
    """Last ids by message type and symbol; the aggregate trades may be behind the trades."""

    def __init__(self, **trades: int) -> None:
        self.trades = trades
        self.agg_trades = dict(trades)
        self.errors: list[Exception] = []
        self.asked: list[Sequence[str]] = []
        self.asked_alone: list[tuple[str, str]] = []
        # Symbols that have not traded for a day.
        self.idle: set[str] = set()
        # The age of the last event of a stream that is asked for alone.
        self.last_age_us = 86_400_000_000

    async def last_trades(self, symbols: Sequence[str]) -> Mapping[str, Head]:
        self.asked.append(symbols)
        await asyncio.sleep(0.05)
        if self.errors:
            raise self.errors.pop(0)
        return {
            symbol: head(symbol, -1 if symbol in self.idle else self.trades[symbol])
            for symbol in symbols
            if symbol in self.trades
        }

    async def last_of(self, message_type: str, symbol: str) -> Head:
        self.asked_alone.append((message_type, symbol))
        await asyncio.sleep(0.05)
        known = self.agg_trades if message_type == "agg_trade" else self.trades
        now_us = time.time_ns() // 1000
        return head(symbol, known[symbol])._replace(timestamp=now_us - self.last_age_us)


def head(symbol: str, last_id: int) -> Head:
    return Head(VENUE, symbol, time.time_ns() // 1000, time.time_ns() // 1000, last_id, last_id)


class Bench:
    """A head check, the sequencers that it checks, and what it has noticed."""

    def __init__(self, exchange: Exchange, *names: str, **positions: int) -> None:
        self.exchange = exchange
        self.streams: list[Stream] = [parse_stream(name) for name in names or ("ausdt@trade",)]
        found = {
            StreamKey(stream.message_type, symbol): Position(
                stream.message_type, symbol, last_id, 1, 0, 0
            )
            for symbol, last_id in positions.items()
            for stream in self.streams
            if stream.symbol == symbol
        }
        self.sequencers = Sequencers(self.streams, found)
        self.noticed: list[tuple[str, Contiguous]] = []
        self.positions: list[Position] = []
        self.counts = FeedCounts()
        self.check = HeadCheck(
            INTERVAL_S,
            exchange,
            self.sequencers,
            notice=lambda symbol, sequencer: self.noticed.append((symbol, sequencer)),
            resume=self._resume,
            counts=self.counts,
        )

    def sequencer(self, number: int = 0) -> Contiguous:
        sequencer = self.sequencers.contiguous(self.streams[number])
        assert sequencer is not None
        return sequencer

    def holes(self) -> list[tuple[str, str, tuple[int, int] | None]]:
        return [(one.message_type, symbol, one.hole) for symbol, one in self.noticed]

    def arrive(self, *ids: int) -> Sequence[Event]:
        return [event for i in ids for event in self.sequencer().accept(trade(i))]

    def _resume(self, positions: Iterable[Position]) -> None:
        self.positions += positions


def trade(trade_id: int) -> Trade:
    now = time.time_ns() // 1000
    return Trade(VENUE, "AUSDT", now, now, "websocket", trade_id, "1.0", "2.0", "buy")


def checked(bench: Bench, script: Callable[[], Awaitable[None]] | None = None) -> None:
    """Run the check until a while after the script, or for one check."""

    async def both() -> None:
        running = asyncio.create_task(bench.check.run(lambda: bench.streams))
        if script:
            await script()
        await asyncio.sleep(CHECKED_S)
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(both())


def test_trades_that_were_missed_are_noticed_although_no_further_trade_comes() -> None:
    bench = Bench(Exchange(AUSDT=12), AUSDT=9)
    checked(bench)
    assert bench.holes() == [("trade", "AUSDT", (10, 12))]
    assert bench.positions == []
    assert bench.counts.head_checks == {"done": 1}


def test_a_stream_that_is_complete_is_left_alone() -> None:
    bench = Bench(Exchange(AUSDT=9), AUSDT=9)
    checked(bench)
    assert bench.holes() == []


def test_what_the_exchange_reports_may_still_arrive_by_itself() -> None:
    bench = Bench(Exchange(AUSDT=12), AUSDT=9)

    async def script() -> None:
        await asyncio.sleep(SETTLE_S / 2)
        bench.arrive(10, 11, 12)

    checked(bench, script)
    assert bench.holes() == []


def test_a_stream_without_a_position_continues_after_the_exchanges_last_id() -> None:
    bench = Bench(Exchange(AUSDT=12))
    checked(bench)
    (position,) = bench.positions
    assert (position.message_type, position.symbol, position.last_id) == ("trade", "AUSDT", 12)
    assert (position.partition, position.offset) == (-1, -1)
    assert [trade.trade_id for trade in bench.arrive(13)] == [13]  # type: ignore[attr-defined]


def test_a_symbol_that_has_never_traded_gets_a_position_too() -> None:
    bench = Bench(Exchange(AUSDT=-1))
    checked(bench)
    assert [position.last_id for position in bench.positions] == [-1]
    assert bench.exchange.asked_alone == [("trade", "AUSDT")]
    again = Bench(Exchange(AUSDT=0), AUSDT=-1)
    checked(again)
    assert again.holes() == [("trade", "AUSDT", (0, 0))]


def test_a_symbol_that_has_not_traded_for_a_day_is_asked_for_once() -> None:
    exchange = Exchange(AUSDT=12)
    exchange.idle.add("AUSDT")
    bench = Bench(exchange, AUSDT=9)

    async def script() -> None:
        await asyncio.sleep(3 * INTERVAL_S)

    checked(bench, script)
    assert bench.holes() == [("trade", "AUSDT", (10, 12))]
    assert len(exchange.asked) > 2
    assert exchange.asked_alone == [("trade", "AUSDT")]


def test_aggregate_trades_are_asked_for_only_after_the_symbol_has_traded() -> None:
    exchange = Exchange(AUSDT=12)
    bench = Bench(exchange, "ausdt@aggTrade", AUSDT=9)

    async def script() -> None:
        await asyncio.sleep(3 * INTERVAL_S)
        assert exchange.asked_alone == [("agg_trade", "AUSDT")]
        exchange.trades["AUSDT"] = exchange.agg_trades["AUSDT"] = 13
        await asyncio.sleep(INTERVAL_S)

    checked(bench, script)
    assert len(exchange.asked_alone) == 2
    assert bench.holes()[-1] == ("agg_trade", "AUSDT", (10, 13))


def test_a_stream_of_a_symbol_that_has_not_traded_is_as_complete_as_the_new_report() -> None:
    exchange = Exchange(AUSDT=12)
    bench = Bench(exchange, "ausdt@aggTrade", AUSDT=12)
    heads = []

    async def script() -> None:
        for _ in range(2):
            await asyncio.sleep(INTERVAL_S / 2)
            heads.append(bench.sequencer().head)
            await asyncio.sleep(INTERVAL_S / 2)

    checked(bench, script)
    first, second = (one for one in heads if one)
    assert (first.last_id, second.last_id, len(exchange.asked_alone)) == (12, 12, 1)
    assert second.timestamp is not None
    assert first.timestamp is not None
    assert second.timestamp > first.timestamp


def test_aggregate_trades_that_rest_does_not_have_yet_are_asked_for_again() -> None:
    exchange = Exchange(AUSDT=12)
    exchange.agg_trades["AUSDT"] = 9
    bench = Bench(exchange, "ausdt@aggTrade", AUSDT=9)

    async def script() -> None:
        await asyncio.sleep(INTERVAL_S / 2)
        exchange.agg_trades["AUSDT"] = 12
        await asyncio.sleep(INTERVAL_S)

    checked(bench, script)
    assert bench.holes() == [("agg_trade", "AUSDT", (10, 12))]


def test_an_event_after_the_question_answers_it_for_its_stream() -> None:
    exchange = Exchange(AUSDT=12)
    bench = Bench(exchange, "ausdt@aggTrade")

    async def script() -> None:
        await asyncio.sleep(SETTLE_S / 2)
        sequencer = bench.sequencer()
        sequencer.resume(9, 1)
        sequencer.follows(10, 2, time.time_ns() // 1000)

    checked(bench, script)
    assert exchange.asked_alone == []
    assert (bench.sequencer().head or head("", 0)).last_id == 10
    assert bench.holes() == []


def test_streams_without_contiguous_ids_and_unlisted_symbols_are_left_out() -> None:
    exchange = Exchange(AUSDT=12)
    names = ("ausdt@bookTicker", "ausdt@trade", "nosuch@trade", "!miniTicker@arr")
    bench = Bench(exchange, *names, AUSDT=12, NOSUCH=3)
    checked(bench)
    assert exchange.asked == [["AUSDT", "NOSUCH"]]
    assert bench.holes() == []


def test_nothing_is_asked_without_streams_of_trades() -> None:
    bench = Bench(Exchange(AUSDT=12), "ausdt@bookTicker")
    checked(bench)
    assert bench.exchange.asked == []


def test_a_connection_that_opens_is_followed_by_a_check_within_seconds() -> None:
    bench = Bench(Exchange(AUSDT=9), AUSDT=9)

    async def script() -> None:
        await asyncio.sleep(20)
        bench.exchange.trades["AUSDT"] = 12
        bench.check.request()
        await asyncio.sleep(CHECKED_S)
        assert bench.holes() == [("trade", "AUSDT", (10, 12))]

    checked(bench, script)


def test_connections_that_break_all_the_time_do_not_use_up_the_request_weight() -> None:
    bench = Bench(Exchange(AUSDT=9), AUSDT=9)

    async def script() -> None:
        for _ in range(600):
            bench.check.request()
            await asyncio.sleep(0.1)

    checked(bench, script)
    assert len(bench.exchange.asked) <= 60 / (SETTLE_S + LEAST_INTERVAL_S) + 1


@pytest.mark.parametrize(
    "error", [FeedUnavailable("reset"), FeedRefused("451", "elsewhere", status=451)], ids=str
)
def test_a_check_that_fails_is_tried_again(error: Exception) -> None:
    exchange = Exchange(AUSDT=12)
    exchange.errors = [error] * 3
    bench = Bench(exchange, AUSDT=9)

    async def script() -> None:
        await asyncio.sleep(10)

    checked(bench, script)
    assert bench.holes() == [("trade", "AUSDT", (10, 12))]
    assert bench.counts.head_checks["failed"] == 3


def test_an_exchange_that_reports_no_last_ids_is_left_alone_and_named(journal: Journal) -> None:
    exchange = Exchange(AUSDT=12)
    exchange.errors = [FeedRefused("HTTP 404", "nothing", status=404)] * 9
    bench = Bench(exchange, AUSDT=9)

    async def script() -> None:
        await asyncio.sleep(3 * INTERVAL_S)

    checked(bench, script)
    assert len(exchange.asked) == 1
    (entry,) = journal.named("head_check_stopped")
    assert "404" in entry["error"]
    assert "next trade" in entry["consequence"]


def test_a_symbol_that_trades_for_the_first_time_during_a_check_is_known_after_the_next_one() -> (
    None
):
    """The report of the check is older than the trade. A connection may still bring it, late."""
    exchange = Exchange(AUSDT=3)
    exchange.idle.add("AUSDT")
    exchange.last_age_us = 0
    bench = Bench(exchange)

    async def script() -> None:
        await asyncio.sleep(CHECKED_S)
        assert bench.sequencer().expected is None
        assert bench.positions == []
        exchange.idle.clear()
        await asyncio.sleep(INTERVAL_S)

    checked(bench, script)
    assert bench.sequencer().expected == 4
    assert [position.last_id for position in bench.positions] == [3]
