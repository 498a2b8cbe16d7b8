from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.streams import parse_stream, stream_of, streams_path
from bridge.core.subscription import MAX_PATH_CHARS, connections, is_pattern, subscribe
from tests.core.support import repeatable

LISTED = {
    "BTCUSDT": "TRADING",
    "ETHUSDT": "TRADING",
    "LUNAUSDT": "BREAK",
    "ETHBTC": "TRADING",
    "币安人生USDT": "TRADING",
}


def names(*args: object, **kwargs: object) -> list[str]:
    subscription = subscribe(*args, **kwargs)  # type: ignore[arg-type]
    return [stream.name for stream in subscription.streams]


def test_every_symbol_has_every_kind() -> None:
    subscription = subscribe(["BTCUSDT", "ETHUSDT"], ["trade", "bookTicker"], [], LISTED)
    assert [stream.name for stream in subscription.streams] == [
        *("btcusdt@trade", "btcusdt@bookTicker", "ethusdt@trade", "ethusdt@bookTicker")
    ]
    assert subscription.refused == []


def test_a_pattern_takes_the_symbols_that_trade() -> None:
    assert names(["*USDT"], ["trade"], [], LISTED) == [
        *("btcusdt@trade", "ethusdt@trade", "币安人生usdt@trade")
    ]


def test_a_question_mark_stands_for_one_character() -> None:
    assert names(["???BTC"], ["trade"], [], LISTED) == ["ethbtc@trade"]


@pytest.mark.parametrize(("symbol", "pattern"), [("*USDT", True), ("B?", True), ("BTC", False)])
def test_a_pattern_is_known_by_its_signs(symbol: str, pattern: bool) -> None:  # noqa: FBT001
    assert is_pattern(symbol) is pattern


def test_a_pattern_that_matches_nothing_is_named() -> None:
    subscription = subscribe(["*EUR"], ["trade"], [], LISTED)
    assert subscription.streams == []
    assert subscription.refused == ["binance.symbols: no symbol that trades matches '*EUR'"]


def test_an_unlisted_symbol_is_named_with_the_nearest_and_the_others_go_on() -> None:
    subscription = subscribe(["BTCUSD", "ETHUSDT"], ["trade"], ["XBTUSDT@trade"], LISTED)
    assert [stream.name for stream in subscription.streams] == ["ethusdt@trade"]
    assert subscription.refused == [
        "the exchange lists no symbol 'BTCUSD'; did you mean 'BTCUSDT'?",
        "the exchange lists no symbol 'XBTUSDT'; did you mean 'BTCUSDT'?",
    ]


def test_a_symbol_unlike_any_other_is_named_without_a_guess() -> None:
    subscription = subscribe(["QQQQ"], ["trade"], [], LISTED)
    assert subscription.refused == ["the exchange lists no symbol 'QQQQ'"]


def test_a_named_symbol_is_kept_while_it_does_not_trade() -> None:
    assert names(["LUNAUSDT"], ["trade"], [], LISTED) == ["lunausdt@trade"]


def test_names_are_taken_as_they_are_where_the_list_cannot_be_had() -> None:
    assert names(["NEWUSDT"], ["trade"], ["xusdt@depth"], None) == [
        *("newusdt@trade", "xusdt@depth")
    ]


def test_a_market_wide_stream_needs_no_listed_symbol() -> None:
    assert names([], [], ["!miniTicker@arr"], {}) == ["!miniTicker@arr"]


def test_what_is_asked_for_twice_is_opened_once() -> None:
    assert names(["BTCUSDT", "BTC*"], ["trade", "trade"], ["BTCUSDT@trade"], LISTED) == [
        "btcusdt@trade"
    ]


@repeatable
@given(st.integers(0, 400), st.integers(1, 50))
def test_streams_are_spread_evenly_under_the_bound_each_on_one_connection(
    count: int, most: int
) -> None:
    streams = [stream_of(f"S{index}USDT", "trade") for index in range(count)]
    parts = connections(streams, most)
    assert Counter(s.name for part in parts for s in part) == Counter(s.name for s in streams)
    sizes = [len(part) for part in parts]
    assert all(0 < size <= most for size in sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len(parts) == -(-count // most)


@repeatable
@given(st.integers(1, 1500), st.sampled_from(["A", "1000PEPE", "币安人生"]))
def test_no_url_is_longer_than_servers_take(count: int, word: str) -> None:
    streams = [stream_of(f"{word}{index}USDT", "bookTicker") for index in range(count)]
    parts = connections(streams, 1024)
    assert max(len(streams_path(part)) for part in parts) <= MAX_PATH_CHARS
    assert sum(map(len, parts)) == count


def test_a_name_too_long_for_any_url_does_not_keep_the_others_waiting() -> None:
    streams = [stream_of("币" * 3000, "trade"), parse_stream("btcusdt@trade")]
    assert connections(streams, 1024) == [[streams[0]], [streams[1]]]
