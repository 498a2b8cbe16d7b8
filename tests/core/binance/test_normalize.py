import json
import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.binance.normalize import PAYLOADS, check_numbers, microseconds
from bridge.core.model.events import EVENT_TYPES, Candle, Event, ReferencePrice
from bridge.errors import InvalidFrame
from tests.support.events import (
    FRAMES,
    changed,
    decode,
    decode_event,
    events,
    market_wide,
    payload,
    published,
    repeatable,
)
from tests.support.reading import read

SCHEMA_PATTERN = re.compile(r"^-?[0-9]+(\.[0-9]+)?$", re.ASCII)
MICROSECOND_KEYS = ("E", "T", "t", "O", "C")


def in_microseconds(kind: str) -> str:
    """Return the frame as with `timeUnit=MICROSECOND`: 13 digits become 16, ids are unchanged."""
    return re.sub(r'"([A-Za-z])":(1[567]\d{11})\b', r'"\1":\g<2>250', FRAMES[kind])


@pytest.mark.parametrize("kind", FRAMES)
def test_every_field_of_an_event_is_what_the_exchange_sent(kind: str) -> None:
    assert published(FRAMES[kind]) == read(FRAMES[kind])


def test_every_kind_of_payload_has_a_frame_here() -> None:
    assert set(FRAMES) == set(PAYLOADS)


def test_every_event_of_the_contract_that_comes_from_the_exchange_is_made() -> None:
    made = {read(frame)[0]["message_type"] for frame in FRAMES.values()}
    assert made == EVENT_TYPES.keys() - {"gap", "invalid", "status"}


@pytest.mark.parametrize("kind", FRAMES)
def test_times_are_microseconds_whatever_the_exchange_was_asked_for(kind: str) -> None:
    frame = in_microseconds(kind)
    assert published(frame) == read(frame)


def test_a_time_in_microseconds_keeps_its_last_digits() -> None:
    event = decode_event(in_microseconds("trade"))
    assert event.timestamp == 1_790_960_630_913_250


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (0, 0),
        (1_790_960_630_913, 1_790_960_630_913_000),
        (1_790_960_630_913_250, 1_790_960_630_913_250),
        (99_999_999_999_999, 99_999_999_999_999_000),
        (100_000_000_000_000, 100_000_000_000_000),
    ],
)
def test_milliseconds_and_microseconds_are_told_apart_by_their_size(
    time: int, expected: int
) -> None:
    assert microseconds(time) == expected


@pytest.mark.parametrize("kind", ["trade", "aggTrade", "blockTrade"])
@pytest.mark.parametrize(("buyer_is_maker", "side"), [(True, "sell"), (False, "buy")])
def test_the_side_is_the_takers(kind: str, buyer_is_maker: bool, side: str) -> None:  # noqa: FBT001
    (event,) = published(changed(kind, m=buyer_is_maker))
    assert event["side"] == side


def test_prices_keep_every_digit_and_every_zero() -> None:
    (event,) = published(changed("trade", p="0.00000000", q="123456789012345678901234567890.10"))
    assert (event["price"], event["volume"]) == ("0.00000000", "123456789012345678901234567890.10")


@pytest.mark.parametrize("kind", FRAMES)
def test_unknown_keys_are_passed_over(kind: str) -> None:
    envelope = json.loads(FRAMES[kind])
    envelope |= {"zz": 1, "new": {"deep": [None, "x"]}}
    envelope["data"] |= {"st": 1, "zz": [{}], "ünknown": {"e": "trade"}}
    assert published(json.dumps(envelope)) == read(FRAMES[kind])


@pytest.mark.parametrize("kind", FRAMES)
def test_the_order_of_keys_does_not_matter(kind: str) -> None:
    envelope = json.loads(FRAMES[kind])
    backwards = {
        "data": dict(reversed(envelope["data"].items())),
        "stream": envelope["stream"],
    }
    assert published(json.dumps(backwards)) == read(FRAMES[kind])


def test_a_symbol_may_hold_chinese_characters() -> None:
    frame = changed("trade", s="币安人生USDT").replace("btcusdt@", "币安人生usdt@")
    (event,) = published(frame)
    assert event["symbol"] == "币安人生USDT"
    assert [event] == read(frame)


def test_a_chinese_symbol_may_come_as_escapes() -> None:
    frame = json.dumps(
        {"stream": "币安人生usdt@trade", "data": payload("trade", s="币安人生USDT")},
        ensure_ascii=True,
    )
    assert "\\u5e01" in frame
    assert decode_event(frame).symbol == "币安人生USDT"


def test_a_partial_book_has_the_symbol_of_its_stream() -> None:
    frame = FRAMES["partialDepth"].replace("btcusdt@depth20@100ms", "币安人生usdt@depth5")
    assert decode_event(frame).symbol == "币安人生USDT"


@pytest.mark.parametrize("interval", ["1s", "1m", "1M", "1d", "1d@+08:00"])
def test_a_candle_has_the_interval_of_its_streams_name(interval: str) -> None:
    frame = FRAMES["kline"].replace("kline_1m", f"kline_{interval}")
    event = decode_event(frame)
    assert isinstance(event, Candle)
    assert event.interval == interval
    assert published(frame) == read(frame)


def test_a_reference_price_may_be_missing() -> None:
    frame = FRAMES["referencePrice"].replace('"86699.09224517"', "null")
    event = decode_event(frame)
    assert isinstance(event, ReferencePrice)
    assert event.price is None
    assert published(frame)[0]["price"] is None


@pytest.mark.parametrize("window", ["1h", "4h", "1d"])
def test_a_short_windows_ticker_has_no_bid_or_ask_not_even_a_null(window: str) -> None:
    (event,) = published(FRAMES[f"ticker_{window}"])
    assert event["window"] == window
    assert not [name for name in event if name.startswith(("bid_", "ask_"))]


def test_a_fall_has_a_negative_change() -> None:
    (event,) = published(FRAMES["ticker"])
    assert (event["change"], event["change_percent"]) == ("-0.00000291", "-2.068")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("!miniTicker@arr", "miniTicker"), *((f"!ticker_{w}@arr", f"ticker_{w}") for w in ("1h",))],
)
def test_a_market_wide_frame_holds_an_event_for_each_member(name: str, kind: str) -> None:
    symbols = ["BTCUSDT", "币安人生USDT", "ETHUSDT"]
    frame = market_wide(name, (payload(kind, s=symbol) for symbol in symbols))
    assert [event["symbol"] for event in published(frame)] == symbols
    assert published(frame) == read(frame)


def test_a_market_wide_frame_may_be_empty() -> None:
    assert not events(decode(market_wide("!miniTicker@arr", [])))


def test_an_empty_side_of_the_book_is_an_empty_list() -> None:
    (event,) = published(changed("depth", b=[], a=[]))
    assert (event["bids"], event["asks"]) == ([], [])


@pytest.mark.parametrize("symbol", ["BTCUSDT", "1000PEPEUSDT", "币安人生USDT"])
def test_an_event_says_whose_it_is_and_how_it_came(symbol: str) -> None:
    frame = changed("trade", s=symbol).replace("btcusdt", symbol.lower())
    (event,) = events(decode(frame, received=77))
    head: tuple[object, ...] = (event.venue, event.symbol, event.received, event.source)
    assert head == ("binance.spot", symbol, 77, "websocket")


@repeatable
@given(st.text(alphabet="0123456789.-+eE_ xnaif１٣,", max_size=12))
@example("1.")
@example(".5")
@example("1 2")
@example("1\n")
@example("-0.0")
def test_a_number_is_what_the_schema_calls_one(text: str) -> None:
    if SCHEMA_PATTERN.fullmatch(text) and not text.startswith("-"):
        check_numbers("1.0", text, "2")
        assert Decimal(text).is_finite()
    else:
        with pytest.raises(InvalidFrame, match="not_a_number"):
            check_numbers("1.0", text, "2")


def test_events_cannot_be_changed() -> None:
    event: Event = decode_event(FRAMES["trade"])
    with pytest.raises(AttributeError):
        event.symbol = "ETHUSDT"  # type: ignore[misc]
