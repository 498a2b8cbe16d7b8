import json

import pytest

from bridge.tools.simulator.fields import (
    ascii_lower,
    ascii_upper,
    kind_of,
    numbers,
    symbol_of,
    to_microseconds,
)


@pytest.mark.parametrize(
    ("stream", "kind", "symbol"),
    [
        ("btcusdt@trade", "trade", "BTCUSDT"),
        ("btcusdt@depth20@100ms", "depth", "BTCUSDT"),
        ("btcusdt@kline_1d@+08:00", "kline", "BTCUSDT"),
        ("btcusdt@ticker_1h", "ticker", "BTCUSDT"),
        ("!miniTicker@arr", "miniTicker", ""),
        ("!ticker_4h@arr", "ticker", ""),
        ("币安人生usdt@trade", "trade", "币安人生USDT"),
        ("nonsense", "", "NONSENSE"),
    ],
)
def test_a_stream_name_says_its_kind_and_its_symbol(stream: str, kind: str, symbol: str) -> None:
    assert (kind_of(stream), symbol_of(stream)) == (kind, symbol)


def test_only_the_ascii_part_of_a_symbol_changes_case() -> None:
    assert ascii_lower("İßUSDT") == "İßusdt"
    assert ascii_upper("ıßusdt") == "ıßUSDT"


def test_strings_that_look_like_ids_are_left_alone() -> None:
    payload = b'{"u":5,"s":"X","b":"1.00","B":"31.21000000","a":"2","A":"40","n":7}'
    assert [(n.key, n.value) for n in numbers("x@bookTicker", payload)] == [("u", 5)]


def test_no_trade_is_written_as_minus_one_and_is_no_id() -> None:
    payload = b'{"e":"kline","E":9,"k":{"t":1,"T":2,"f":-1,"L":-1,"l":"3"}}'
    assert [n.key for n in numbers("x@kline_1m", payload)] == ["E", "t", "T"]


def test_rows_of_an_array_each_have_their_own_symbol() -> None:
    payload = b'[{"E":1,"s":"AUSDT","F":2,"L":3},{"E":4,"s":"BUSDT","F":5,"L":6}]'
    found = [(n.symbol, n.value) for n in numbers("!ticker_1h@arr", payload) if n.key == "L"]
    assert found == [("AUSDT", 3), ("BUSDT", 6)]


def test_microseconds_lengthen_times_and_nothing_else() -> None:
    payload = (
        b'{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":1723161255342,"p":"1.0",'
        b'"q":"2.0","T":1723161255342,"m":true,"M":true}'
    )
    changed = json.loads(to_microseconds("btcusdt@trade", payload))
    assert changed == json.loads(payload) | {"E": 1723161255343000, "T": 1723161255342000}
    assert to_microseconds("btcusdt@trade", json.dumps(changed).encode()) == (
        json.dumps(changed).encode()
    )
