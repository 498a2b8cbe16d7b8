import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.binance.normalize import PAYLOADS
from bridge.core.binance.stream_names import (
    INTERVALS,
    check_stream_name,
    check_suffix,
    parse_stream,
    stream_of,
    streams_path,
)
from bridge.core.model.stream import Stream, lower_symbol, upper_symbol
from tests.support.events import repeatable

# Suffix of the stream, payload, message type, detail.
KINDS: list[tuple[str, str, str, str]] = [
    ("trade", "trade", "trade", ""),
    ("aggTrade", "aggTrade", "agg_trade", ""),
    ("bookTicker", "bookTicker", "quote", ""),
    ("ticker", "ticker", "ticker", ""),
    *((f"ticker_{window}", f"ticker_{window}", "ticker", window) for window in ("1h", "4h", "1d")),
    ("miniTicker", "miniTicker", "mini_ticker", ""),
    *((f"kline_{interval}", "kline", "candle", interval) for interval in INTERVALS),
    ("kline_1d@+08:00", "kline", "candle", "1d@+08:00"),
    ("avgPrice", "avgPrice", "average_price", ""),
    *((f"depth{n}", "partialDepth", "book", "") for n in (5, 10, 20)),
    *((f"depth{n}@100ms", "partialDepth", "book", "") for n in (5, 10, 20)),
    *((f"depth{speed}", "depth", "book_delta", "") for speed in ("", "@100ms", "@1000ms")),
    ("referencePrice", "referencePrice", "reference_price", ""),
    ("blockTrade", "blockTrade", "block_trade", ""),
]
MARKET_WIDE = ["!miniTicker@arr", "!ticker_1h@arr", "!ticker_4h@arr", "!ticker_1d@arr"]

symbols = st.text("ABZ019_-币安人生牛İßé", min_size=1)


@pytest.mark.parametrize(("kind", "payload", "message_type", "detail"), KINDS)
def test_a_stream_name_says_what_it_carries_and_for_whom(
    kind: str, payload: str, message_type: str, detail: str
) -> None:
    name = f"btcusdt@{kind}"
    expected = Stream("binance.spot", name, "BTCUSDT", payload, message_type, detail)
    assert parse_stream(name) == expected
    assert stream_of("BTCUSDT", kind) == expected
    check_suffix(kind)
    check_stream_name(name)


def test_every_payload_that_can_be_asked_for_can_be_read() -> None:
    assert {payload for _, payload, _, _ in KINDS} == set(PAYLOADS)


@pytest.mark.parametrize("name", MARKET_WIDE)
def test_a_market_wide_name_has_no_symbol(name: str) -> None:
    stream = parse_stream(name)
    assert (stream.name, stream.symbol) == (name, None)
    assert f"!{stream.payload}@arr" == name


def test_a_month_is_not_a_minute() -> None:
    assert parse_stream("btcusdt@kline_1M").detail == "1M"
    assert parse_stream("btcusdt@kline_1m").detail == "1m"


@repeatable
@given(symbols, st.sampled_from(KINDS))
def test_a_name_read_and_written_again_is_the_same(
    symbol: str, kind: tuple[str, str, str, str]
) -> None:
    stream = stream_of(symbol, kind[0])
    assert parse_stream(stream.name) == stream
    assert stream_of(stream.symbol or "", kind[0]) == stream


@repeatable
@given(st.text())
def test_only_ascii_letters_change_their_case(text: str) -> None:
    assert upper_symbol(text) == "".join(c.upper() if c.isascii() else c for c in text)
    assert lower_symbol(text) == "".join(c.lower() if c.isascii() else c for c in text)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("btcusdt@trades", "did you mean 'trade'?"),
        ("btcusdt@bookticker", "did you mean 'bookTicker'?"),
        ("btcusdt@aggtrade", "did you mean 'aggTrade'?"),
        ("btcusdt@kline_2m", "did you mean 'kline_"),
        ("btcusdt@kline1m", "did you mean 'kline_1m'?"),
        ("btcusdt@depth@250ms", "did you mean 'depth@100ms'?"),
        ("btcusdt@depth30", "did you mean 'depth"),
        ("btcusdt@ticker_2h", "did you mean 'ticker_"),
        ("btcusdt@xyzzy", "known: trade, aggTrade, "),
        ("!miniTicker", "did you mean '!miniTicker@arr'?"),
        ("!ticker_2h@arr", "did you mean '!ticker_"),
        ("!ticker@arr", "use !miniTicker@arr"),
        ("!bookTicker", "subscribe to bookTicker of each symbol"),
        ("btcusdt", "write <symbol>@<stream>"),
        ("@trade", "write <symbol>@<stream>"),
        ("", "write <symbol>@<stream>"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_right_one(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse_stream(name)


@pytest.mark.parametrize(
    "kind", ["trade ", "trade\n", "kline_", "kline_1m@+09:00", "depth5@250ms", "depth100"]
)
def test_a_kind_is_matched_whole(kind: str) -> None:
    with pytest.raises(ValueError, match="is not a spot stream"):
        check_suffix(kind)


@pytest.mark.parametrize("name", ["btcusdt@trade", "btcusdt@depth@100ms", "!miniTicker@arr"])
def test_a_whole_name_among_the_kinds_is_sent_to_extra_streams(name: str) -> None:
    with pytest.raises(ValueError, match="move it to extra_streams"):
        check_suffix(name)


@repeatable
@given(st.lists(st.tuples(symbols, st.sampled_from(KINDS)), min_size=1, max_size=5))
def test_the_path_names_every_stream_in_plain_ascii(
    asked: list[tuple[str, tuple[str, str, str, str]]],
) -> None:
    streams = [stream_of(symbol, kind[0]) for symbol, kind in asked]
    path = streams_path(streams)
    assert path.isascii()
    assert path.startswith("/stream?streams=")
    assert path.endswith("&timeUnit=MICROSECOND")
    names = path.removeprefix("/stream?streams=").removesuffix("&timeUnit=MICROSECOND")
    assert [unquote(name) for name in names.split("/")] == [stream.name for stream in streams]


def test_a_separator_inside_a_symbol_does_not_split_the_path() -> None:
    path = streams_path([stream_of("A/B&C?#%41", "trade")], microseconds=False)
    assert path == "/stream?streams=a%2Fb%26c%3F%23%2541@trade"


def test_times_in_milliseconds_can_be_had() -> None:
    path = streams_path([parse_stream("btcusdt@trade")], microseconds=False)
    assert path == "/stream?streams=btcusdt@trade"
