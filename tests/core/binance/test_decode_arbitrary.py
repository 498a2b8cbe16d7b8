"""Any bytes give an event, a control message or InvalidFrame. Nothing else is raised."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.binance.decode import Decoder, invalid_event
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import AnyEvent, Event
from bridge.core.records.record import Router
from bridge.errors import INVALID_REASONS, InvalidFrame
from tests.fuzz.inputs import JSON_VALUES, damaged
from tests.support.events import (
    FRAMES,
    RECEIVED,
    TEMPLATE,
    VENUE,
    decode_both_ways,
    events,
    latest_fields,
    market_wide,
    payload,
    repeatable,
    stream_name,
)

REAL = [
    *FRAMES.values(),
    market_wide("!miniTicker@arr", [payload("miniTicker", s=s) for s in ("BTCUSDT", "牛来USDT")]),
    market_wide("!ticker_1h@arr", [payload("ticker_1h")]),
    '{"error":{"code":4,"msg":"Too many subscriptions"},"id":19}',
    '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    '{"e":"serverShutdown","E":1770123456789}',
]
STREAMS = [
    parse_stream(stream_name(frame))
    for frame in REAL
    if '"stream"' in frame and "Shutdown" not in frame
]
NAMES = [stream.name for stream in STREAMS]

_decode_any_event: Callable[[bytes], Any] = msgspec.json.Decoder(AnyEvent).decode


def check(frame: bytes, received: int = RECEIVED) -> None:
    """Check this for one frame, and check that consumers can decode every published event."""
    router = Router(STREAMS, TEMPLATE)
    for event in what_comes_of(frame, received):
        check_record(event, router)


def what_comes_of(frame: bytes, received: int) -> Sequence[Event]:
    try:
        return events(decode_both_ways(Decoder(STREAMS), frame, received))
    except InvalidFrame as error:
        bad = error
    assert bad.reason in INVALID_REASONS
    return [invalid_event(bad, frame, received, VENUE)]


def check_record(event: Event, router: Router) -> None:
    record = router.record(event)
    again = _decode_any_event(record.value)
    assert msgspec.structs.asdict(again) == msgspec.structs.asdict(event)
    assert isinstance(event, type(again))
    assert 0 <= record.timestamp_ms < 2**63
    assert record.route.key.decode() == event.symbol
    for value in record.route.latest:
        assert latest_fields(value, event)


@repeatable
@given(st.binary())
def test_arbitrary_bytes_are_an_event_or_an_invalid_frame(frame: bytes) -> None:
    check(frame)


@repeatable
@given(JSON_VALUES)
def test_arbitrary_json_is_an_event_or_an_invalid_frame(value: object) -> None:
    check(json.dumps(value).encode())


@repeatable
@given(st.sampled_from([*NAMES, "!serverShutdown", "", "x"]), JSON_VALUES)
def test_arbitrary_data_on_a_known_stream_is_an_event_or_an_invalid_frame(
    name: str, data: object
) -> None:
    check(json.dumps({"stream": name, "data": data}).encode())


@repeatable
@given(damaged([frame.encode() for frame in REAL]))
@example(
    json.dumps({"stream": "!miniTicker@arr", "data": [payload("miniTicker", s="\0")]}).encode()
)
def test_a_damaged_frame_is_an_event_or_an_invalid_frame(frame: bytes) -> None:
    check(frame)


@repeatable
@given(st.sampled_from(REAL), st.integers(0, 2**53))
def test_whenever_a_frame_arrives_its_record_time_is_one_kafka_takes(
    frame: str, received: int
) -> None:
    check(frame.encode(), received)
