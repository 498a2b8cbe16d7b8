import gc
import json
import tracemalloc

import msgspec
import pytest

from bridge.core.binance.decode import MAX_PAYLOAD_BYTES, Decoder, invalid_event
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.model.events import Invalid, MiniTicker
from bridge.errors import InvalidFrame
from tests.support.events import (
    FRAMES,
    RECEIVED,
    VENUE,
    decode,
    decoder,
    events,
    market_wide,
    payload,
)

TRADE = FRAMES["trade"]


def refused(frame: str | bytes, *names: str) -> InvalidFrame:
    raw = frame.encode() if isinstance(frame, str) else frame
    with pytest.raises(InvalidFrame) as caught:
        decoder(*(names or ("btcusdt@trade",))).decode(raw, RECEIVED)
    return caught.value


def test_a_bad_member_of_a_market_wide_frame_costs_only_itself() -> None:
    good = [payload("miniTicker", s=symbol) for symbol in ("BTCUSDT", "ETHUSDT", "BNBUSDT")]
    bad = [payload("miniTicker", c="x"), 17, payload("miniTicker", e="trade"), {"E": 1}]
    members = [good[0], bad[0], bad[1], good[1], bad[2], bad[3], good[2]]
    decoded = events(decode(market_wide("!miniTicker@arr", members)))
    assert [event.symbol for event in decoded if isinstance(event, MiniTicker)] == [
        *("BTCUSDT", "ETHUSDT", "BNBUSDT")
    ]
    invalid = [event for event in decoded if isinstance(event, Invalid)]
    assert [json.loads(event.payload) for event in invalid] == bad
    assert [event.reason for event in invalid] == [
        *("not_a_number", "mistyped", "unknown_type", "mistyped")
    ]


def test_bytes_that_are_no_text_cost_only_their_member() -> None:
    frame = market_wide("!miniTicker@arr", [payload("miniTicker", s=s) for s in ("BAD", "BTC")])
    decoded = decoder("!miniTicker@arr").decode(frame.encode().replace(b"BAD", b"\xff"), RECEIVED)
    assert [type(event) for event in events(decoded)] == [Invalid, MiniTicker]


@pytest.mark.parametrize("data", [payload("miniTicker"), None, 5, "x"])
def test_a_market_wide_frame_that_is_no_list_is_mistyped(data: object) -> None:
    frame = json.dumps({"stream": "!miniTicker@arr", "data": data})
    assert refused(frame, "!miniTicker@arr").reason == "mistyped"


def test_a_list_on_a_symbols_stream_is_mistyped() -> None:
    frame = market_wide("btcusdt@miniTicker", [payload("miniTicker")])
    assert refused(frame, "btcusdt@miniTicker").reason == "mistyped"


def test_a_bad_frame_leaves_the_decoder_as_it_was() -> None:
    connector = decoder("btcusdt@trade")
    for bad in (b"\xff", TRADE.replace("BTCUSDT", "ETHUSDT").encode(), b"[" * 100_000):
        with pytest.raises(InvalidFrame):
            connector.decode(bad, RECEIVED)
    assert connector.last_received() == {}
    assert len(events(connector.decode(TRADE.encode(), RECEIVED))) == 1


def test_a_decoder_knows_when_each_stream_last_spoke() -> None:
    connector = decoder("btcusdt@trade", "btcusdt@bookTicker")
    connector.decode(TRADE.encode(), 5)
    connector.decode(TRADE.encode(), 9)
    assert connector.last_received() == {"btcusdt@trade": 9}


@pytest.mark.parametrize(
    ("frame", "request_id", "code"),
    [
        ('{"result":null,"id":1}', 1, None),
        ('{"result":["nopeusdt@depth@100ms","BTC_USDT@depth@100ms"],"id":19}', 19, None),
        ('{"error":{"code":4,"msg":"Too many subscriptions"},"id":19}', 19, 4),
        ('{"error":{"code":2,"msg":"Invalid request"},"id":null}', None, 2),
        ('{"code":2,"msg":"Invalid request: x","id":"a1"}', "a1", 2),
    ],
)
def test_replies_to_control_messages_are_no_events(
    frame: str, request_id: object, code: int | None
) -> None:
    reply = decoder().decode(frame.encode(), RECEIVED)
    assert isinstance(reply, Reply)
    assert reply.request_id == request_id
    assert (reply.error.code if reply.error else reply.code) == code


@pytest.mark.parametrize(
    "frame",
    [
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        '{"e":"serverShutdown","E":1770123456789}',
    ],
)
def test_a_planned_end_is_told_from_data_in_both_its_forms(frame: str) -> None:
    shutdown = decoder("btcusdt@trade").decode(frame.encode(), RECEIVED)
    assert shutdown == ServerShutdown(1_770_123_456_789)


def test_a_planned_end_that_cannot_be_read_is_mistyped() -> None:
    assert refused('{"stream":"!serverShutdown","data":{"E":"soon"}}').reason == "mistyped"


def test_the_invalid_event_has_the_reason_and_the_payload() -> None:
    frame = TRADE.replace("84922.04000000", "many")
    error = refused(frame)
    event = invalid_event(error, frame.encode(), RECEIVED, VENUE)
    assert event == Invalid(
        VENUE, "", None, RECEIVED, "websocket", "not_a_number", frame, error.detail
    )


@pytest.mark.parametrize(
    "raw",
    [b"x" * 10**6, b"\xff" * 10**6, "牛".encode() * 10**6, b"\x00" * 10**6, b"x\xf0\x9f" * 10**5],
)
def test_the_payload_of_an_invalid_event_is_text_of_at_most_64_kib(raw: bytes) -> None:
    event = invalid_event(InvalidFrame("malformed", "x"), raw, RECEIVED, VENUE)
    assert MAX_PAYLOAD_BYTES - 3 < len(event.payload.encode()) <= MAX_PAYLOAD_BYTES
    assert msgspec.json.decode(msgspec.json.encode(event), type=Invalid) == event


@pytest.mark.parametrize("kind", FRAMES)
def test_blanks_and_the_order_of_keys_make_no_difference(kind: str) -> None:
    compact = FRAMES[kind]
    frame = json.loads(compact)
    name = frame["stream"]
    turned = json.dumps({"data": frame["data"], "stream": name})
    spaced = json.dumps(frame)
    assert compact.startswith('{"stream":"')
    expected = decoder(name).decode(compact.encode(), RECEIVED)
    for other in (turned, spaced):
        assert decoder(name).decode(other.encode(), RECEIVED) == expected


def test_whole_numbers_are_numbers_too() -> None:
    whole = json.loads(TRADE)
    whole["data"] |= {"p": "61837", "q": "2"}
    (event,) = events(decode(json.dumps(whole, separators=(",", ":"))))
    assert (event.price, event.volume) == ("61837", "2")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "symbol",
    ["", "A\nB", "\x1b[2J", "A\x00", "A@BUSDT", "A:B", "A B", "A*", "\u202eUSDT", "A" * 51],
)
def test_a_name_that_is_no_symbol_becomes_no_key_and_no_channel(symbol: str) -> None:
    members = [payload("miniTicker", s=name) for name in ("BTCUSDT", symbol, "币安人生USDT")]
    first, invalid, last = events(decode(market_wide("!miniTicker@arr", members)))
    assert [first.symbol, last.symbol] == ["BTCUSDT", "币安人生USDT"]
    assert isinstance(invalid, Invalid)
    assert (invalid.reason, invalid.symbol) == ("wrong_symbol", "")
    assert invalid.detail == f"{symbol!r} is not a symbol"


def test_further_connections_with_the_same_streams_leave_nothing_in_memory() -> None:
    """A bridge reconnects a thousand times and more."""
    streams = [parse_stream(f"x{number}usdt@trade") for number in range(20)]
    Decoder(streams)
    tracemalloc.start()
    try:
        for _ in range(300):
            Decoder(streams)
        gc.collect()
        left_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left_bytes < 50_000
