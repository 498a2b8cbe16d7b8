"""Any bytes give an event, a control message or InvalidFrame. Nothing else is raised."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.binance.decode import Decoder, invalid_event
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import AnyEvent, Event
from bridge.core.records.record import Router
from bridge.errors import INVALID_REASONS, InvalidFrame
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

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
_odd_values = _json_values | st.sampled_from(
    [-1, 2**63, 2**64, 10**400, "", "1e5", "NaN", "１", "-0", " 1", "a\x00b", "牛", [["1"]], []]
)
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


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a real frame with a few bytes flipped, deleted or inserted."""
    frame = bytearray(draw(st.sampled_from(REAL)).encode())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(frame) - 1))
        put_in = draw(st.binary(max_size=3))
        frame[place : place + draw(st.integers(0, 3))] = put_in
    return bytes(frame)


@st.composite
def retyped(draw: st.DrawFn) -> bytes:
    """Draw a real frame with a few fields removed or of another type, at any depth."""
    frame = json.loads(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(_places(frame) or [({"e": ""}, "e")]))
        if draw(st.booleans()):
            container[key] = deepcopy(draw(_odd_values))
        else:
            del container[key]
    return json.dumps(frame, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


def _places(node: Any) -> list[tuple[Any, Any]]:
    if not isinstance(node, dict | list):
        return []
    items = list(node.items() if isinstance(node, dict) else enumerate(node))
    below = [place for _, child in items for place in _places(child)]
    return [(node, key) for key, _ in items] + below


@repeatable
@given(st.binary())
def test_arbitrary_bytes_are_an_event_or_an_invalid_frame(frame: bytes) -> None:
    check(frame)


@repeatable
@given(_json_values)
def test_arbitrary_json_is_an_event_or_an_invalid_frame(value: object) -> None:
    check(json.dumps(value).encode())


@repeatable
@given(st.sampled_from([*NAMES, "!serverShutdown", "", "x"]), _json_values)
def test_arbitrary_data_on_a_known_stream_is_an_event_or_an_invalid_frame(
    name: str, data: object
) -> None:
    check(json.dumps({"stream": name, "data": data}).encode())


@repeatable
@given(mutated())
def test_a_damaged_frame_is_an_event_or_an_invalid_frame(frame: bytes) -> None:
    check(frame)


@repeatable
@given(retyped())
@example(
    json.dumps({"stream": "!miniTicker@arr", "data": [payload("miniTicker", s="\0")]}).encode()
)
def test_a_frame_of_wrong_fields_is_an_event_or_an_invalid_frame(frame: bytes) -> None:
    check(frame)


@repeatable
@given(st.sampled_from(REAL), st.integers(0, 2**53))
def test_whenever_a_frame_arrives_its_record_time_is_one_kafka_takes(
    frame: str, received: int
) -> None:
    check(frame.encode(), received)
