"""The table of prices shows what Redis has, and the page of a symbol its last trades."""

import json
from collections.abc import Sequence

import msgspec
import pytest

from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import AggTrade, Book, Event, Ticker, Trade
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.core.sequencing.sequencers import Sequencers
from bridge.monitoring.dashboard.market import MAX_SAMPLES, MAX_TRADES, Market
from bridge.pipeline.pipeline import Pipeline
from tests.support.events import FRAMES, TEMPLATE, decode_event

ALL = ("btcusdt@trade", "btcusdt@aggTrade", "btcusdt@bookTicker", "btcusdt@miniTicker")


class Fed:
    """A market that listens to a pipeline with these streams."""

    def __init__(self, *names: str) -> None:
        streams = [parse_stream(name) for name in names]
        self.market = Market()
        self._pipeline = Pipeline(SPOT, Router(streams, TEMPLATE), Sequencers(streams), ())
        self._pipeline.add_listener(self.market.push)

    def publish(self, events: Sequence[Event]) -> set[str]:
        self._pipeline.publish(events)
        return self.market.changed()


def event(kind: str) -> Event:
    return decode_event(FRAMES[kind])


def trades(count: int, first: int = 1) -> list[Event]:
    one = event("trade")
    assert isinstance(one, Trade)
    return [
        msgspec.structs.replace(one, trade_id=number, price=f"{number}.50")
        for number in range(first, first + count)
    ]


def trade_ids(market: Market, symbol: str = "BTCUSDT") -> list[int]:
    return [json.loads(bytes(raw))["trade_id"] for raw in market.trades(symbol)]


def test_a_row_has_the_price_of_the_most_exact_stream_and_the_open_of_the_day() -> None:
    fed = Fed(*ALL)
    assert fed.publish([event("trade"), event("aggTrade"), event("bookTicker")]) == {"BTCUSDT"}
    assert fed.publish([event("miniTicker")]) == {"BTCUSDT"}
    row = fed.market.rows["BTCUSDT"]
    assert row.cells() == ("84922.04000000", "86342.54000000")
    assert row.quote == event("bookTicker")


@pytest.mark.parametrize(
    ("names", "kinds", "price"),
    [
        (("btcusdt@aggTrade", "btcusdt@miniTicker"), ("miniTicker", "aggTrade"), "84598.05000000"),
        (("btcusdt@miniTicker",), ("miniTicker",), "86128.01000000"),
        (("btcusdt@bookTicker",), ("bookTicker",), None),
    ],
)
def test_without_trades_the_price_comes_from_the_next_stream(
    names: tuple[str, ...], kinds: tuple[str, ...], price: str | None
) -> None:
    fed = Fed(*names)
    fed.publish([event(kind) for kind in kinds])
    assert fed.market.rows["BTCUSDT"].cells()[0] == price


def test_a_ticker_alone_fills_the_whole_row() -> None:
    fed = Fed("dogebnb@ticker")
    ticker = event("ticker")
    assert isinstance(ticker, Ticker)
    fed.publish([ticker])
    row = fed.market.rows["DOGEBNB"]
    assert row.cells() == (ticker.price, ticker.open)
    assert row.quote is ticker


def test_levels_of_the_book_are_for_the_page_of_the_symbol_and_no_change_of_the_table() -> None:
    fed = Fed("btcusdt@depth20@100ms")
    assert fed.publish([event("partialDepth")]) == set()
    assert isinstance(fed.market.rows["BTCUSDT"].book, Book)


def test_a_symbol_counts_as_changed_once_even_if_a_sample_came_between() -> None:
    fed = Fed(*ALL)
    fed.publish([])
    fed._pipeline.publish([event("trade")])
    fed.market.sample()
    assert fed.market.changed() == {"BTCUSDT"}
    assert fed.market.changed() == set()


def test_the_history_has_a_price_for_each_of_the_last_samples() -> None:
    fed = Fed(*ALL)
    fed.publish([event("bookTicker")])
    fed.market.sample()
    for one in trades(MAX_SAMPLES + 4):
        fed.publish([one])
        fed.market.sample()
    prices = fed.market.rows["BTCUSDT"].prices
    assert len(prices) == MAX_SAMPLES
    assert (prices[0], prices[-1]) == (5.5, MAX_SAMPLES + 4.5)


def test_a_sample_without_a_price_is_null_in_json() -> None:
    fed = Fed(*ALL)
    fed.publish([event("bookTicker")])
    fed.market.sample()
    assert msgspec.json.encode(list(fed.market.rows["BTCUSDT"].prices)) == b"[null]"


def test_trades_are_kept_only_while_somebody_looks_and_the_newest_comes_first() -> None:
    fed = Fed(*ALL)
    fed.publish(trades(3))
    assert trade_ids(fed.market) == []
    with fed.market.looked_at("BTCUSDT"), fed.market.looked_at("BTCUSDT"):
        assert trade_ids(fed.market) == [3]
        fed.publish(trades(MAX_TRADES + 5, first=4))
        newest = MAX_TRADES + 8
        assert trade_ids(fed.market) == list(range(newest, newest - MAX_TRADES, -1))
    assert trade_ids(fed.market) == []
    with fed.market.looked_at("ETHUSDT"):
        fed.publish(trades(1, first=99))
        assert fed.market.trades("ETHUSDT") == []


def test_of_two_streams_of_trades_the_page_shows_only_the_one_with_the_price() -> None:
    fed = Fed(*ALL)
    with fed.market.looked_at("BTCUSDT"):
        fed.publish([event("trade"), event("aggTrade")])
        assert trade_ids(fed.market) == [6732650448]
    fed = Fed("btcusdt@aggTrade")
    with fed.market.looked_at("BTCUSDT"):
        fed.publish([event("aggTrade")])
        (only,) = fed.market.trades("BTCUSDT")
        assert isinstance(msgspec.json.decode(bytes(only), type=AggTrade), AggTrade)


def test_a_removed_symbol_is_forgotten() -> None:
    fed = Fed(*ALL)
    fed.publish([event("trade")])
    fed.market.remove({"BTCUSDT", "ETHUSDT"})
    assert fed.market.rows == {}
