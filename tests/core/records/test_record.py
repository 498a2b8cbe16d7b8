import json

import msgspec
import pytest

from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import Event, Invalid, MiniTicker, Trade
from bridge.core.records.record import Router, topic_name
from tests.support.events import (
    FRAMES,
    RECEIVED,
    TEMPLATE,
    VENUE,
    changed,
    decode_event,
    guard,
    is_price,
    market_wide,
    payload,
    published,
    router,
)
from tests.support.reading import read

MINUTE_US = 60_000_000


def trade(symbol: str = "BTCUSDT", timestamp: int | None = RECEIVED) -> Trade:
    return Trade(VENUE, symbol, timestamp, RECEIVED, "websocket", 7, "1.0", "2.0", "buy")


@pytest.mark.parametrize("kind", FRAMES)
def test_topic_key_and_channel_are_those_of_the_contract(kind: str) -> None:
    event = decode_event(FRAMES[kind])
    (fields,) = read(FRAMES[kind])
    route = router().record(event).route
    assert route.message_type == fields["message_type"]
    assert route.topic == f"binance.spot.{fields['message_type']}"
    assert route.symbol == fields["symbol"]
    assert route.key == fields["symbol"].encode()
    assert route.channel == f"binance.spot.{fields['message_type']}:{fields['symbol']}"


def test_a_chinese_symbol_is_in_the_key_and_not_in_the_topic() -> None:
    route = router().record(trade("币安人生USDT")).route
    assert route.topic == "binance.spot.trade"
    assert route.key == "币安人生USDT".encode()
    assert route.channel == "binance.spot.trade:币安人生USDT"


def test_topics_are_named_by_their_template() -> None:
    record = Router([], "ticks-{message_type}").record(trade())
    assert record.route.topic == "ticks-trade"
    assert topic_name("{message_type}.of.{venue}", "binance.spot", "gap") == "gap.of.binance.spot"


def test_a_pair_of_type_and_symbol_has_one_route() -> None:
    shared = router()
    first, second = (shared.record(trade()).route for _ in range(2))
    assert first is second
    assert shared.record(trade("ETHUSDT")).route is not first
    assert shared.record(decode_event(FRAMES["bookTicker"])).route is not first


def test_a_ticker_of_another_window_shares_the_topic_but_not_the_latest_values() -> None:
    shared = router("bnbbtc@ticker", "bnbbtc@ticker_1h")
    day = decode_event(changed("ticker", s="BNBBTC").replace("dogebnb", "bnbbtc"))
    hour = decode_event(FRAMES["ticker_1h"])
    routes = [shared.record(event).route for event in (day, hour)]
    assert routes[0].topic == routes[1].topic
    assert [bool(route.latest) for route in routes] == [True, False]


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (RECEIVED, RECEIVED),
        (RECEIVED - 10 * MINUTE_US, RECEIVED - 10 * MINUTE_US),
        (0, 0),
        (None, RECEIVED),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_the_time_of_a_record_is_the_exchanges_or_that_of_its_arrival(
    timestamp: int | None, expected: int
) -> None:
    record = router().record(trade(timestamp=timestamp))
    assert record.timestamp_ms == expected // 1000
    assert record.received == RECEIVED
    assert json.loads(record.value)["timestamp"] == timestamp


def test_the_value_is_the_event_in_json_with_its_type_first() -> None:
    assert router().record(trade()).value == (
        b'{"message_type":"trade","venue":"binance.spot","symbol":"BTCUSDT",'
        b'"timestamp":1791600000123456,"received":1791600000123456,"source":"websocket",'
        b'"trade_id":7,"price":"1.0","volume":"2.0","side":"buy"}'
    )


def test_latest_values_know_which_streams_a_symbol_has() -> None:
    shared = Router(
        map(parse_stream, ("btcusdt@trade", "btcusdt@miniTicker", "ethusdt@miniTicker")),
        "{message_type}",
    )
    minis = [
        decode_event(changed("miniTicker", s=symbol).replace("btcusdt", symbol.lower()))
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    prices = [any(is_price(v) for v in shared.record(event).route.latest) for event in minis]
    assert prices == [False, True]


def test_a_market_wide_stream_counts_for_every_symbol() -> None:
    shared = router("!miniTicker@arr", "btcusdt@trade")
    frame = market_wide("!miniTicker@arr", [payload("miniTicker", s=s) for s in ("BTCUSDT", "X")])
    published(frame, shared.record)
    routes = {symbol: shared.record(_mini(symbol)).route.latest for symbol in ("BTCUSDT", "X")}
    assert [guard(value) for value in routes["BTCUSDT"]] == ["day_time"]
    assert [guard(value) for value in routes["X"]] == ["price_time", "day_time"]


def test_what_nobody_could_read_has_a_topic_and_an_empty_key() -> None:
    event = Invalid(VENUE, "", None, RECEIVED, "websocket", "malformed", "\x00�", "x")
    record = router().record(event)
    assert (record.route.topic, record.route.key) == ("binance.spot.invalid", b"")
    assert msgspec.json.decode(record.value, type=Invalid) == event


def _mini(symbol: str) -> Event:
    return decode_event(changed("miniTicker", s=symbol).replace("btcusdt", symbol.lower()))


def test_the_price_comes_from_another_stream_when_the_first_is_taken_away() -> None:
    """When the first stream is added again, the price comes from it again."""
    both = [parse_stream("btcusdt@trade"), parse_stream("btcusdt@miniTicker")]
    changing = Router(both, TEMPLATE)
    price = MiniTicker(VENUE, "BTCUSDT", 1, 1, "websocket", "1", "1", "1", "1", "1", "1")
    assert not any(is_price(value) for value in changing.record(price).route.latest)
    changing.set_streams(both[1:])
    assert any(is_price(value) for value in changing.record(price).route.latest)
    assert changing.record(trade()).route.latest == ()
    changing.set_streams(both)
    assert not any(is_price(value) for value in changing.record(price).route.latest)
    assert changing.record(trade()).route.latest != ()


def test_the_routes_of_symbols_whose_streams_stay_are_kept() -> None:
    changing = Router([parse_stream("btcusdt@trade")], TEMPLATE)
    route = changing.record(trade()).route
    changing.set_streams([parse_stream("btcusdt@trade"), parse_stream("ethusdt@trade")])
    assert changing.record(trade()).route is route
