import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from bridge.core.binance.decode import MAX_FRAME_BYTES, Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.model.events import AnyEvent, Invalid
from bridge.core.model.stream import SPOT, Stream
from bridge.core.records.record import Router
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.rules import MAX_AHEAD_US
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import InvalidFrame
from bridge.pipeline import pipeline
from bridge.pipeline.pipeline import Pipeline
from bridge.tools.simulator import Capture
from tests.support.events import repeatable
from tests.support.exchange import NAME, Recorder, quote, trade
from tests.support.journal import Journal

NOW = 1_790_000_000_000_000
AHEAD_MS = MAX_AHEAD_US // 1000
QUOTES = "btcusdt@bookTicker"
STREAMS = [parse_stream(NAME), parse_stream(QUOTES), parse_stream("!miniTicker@arr")]


class Bench:
    """A pipeline with two sinks, and the messages about the connection."""

    def __init__(self) -> None:
        self.sinks = (Recorder(), Recorder())
        self.pipeline = Pipeline(
            SPOT, Router(STREAMS, "{venue}.{message_type}"), Sequencers(STREAMS), self.sinks
        )
        self.decoder = Decoder(STREAMS)
        self.arrivals = Arrivals()
        self.control: list[Reply | ServerShutdown] = []

    def handle_frames(self, *frames: str | bytes, received: int = NOW) -> None:
        encoded = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
        self.pipeline.handle_frames(
            self.decoder, encoded, received, self.control.append, self.arrivals
        )

    def check(self) -> None:
        """Check that both sinks got everything received, with the same bytes in the same order."""
        one, other = self.sinks
        assert [r.value for r in one.records] == [r.value for r in other.records]
        kinds = Counter(record.route.message_type for record in one.records)
        assert kinds == self.pipeline.counts.received == one.counts.published


def test_every_sink_gets_the_same_records_in_order() -> None:
    bench = Bench()
    bench.handle_frames(*(trade(number) for number in range(5)))
    assert bench.sinks[0].ids() == list(range(5))
    bench.check()
    assert all(a is b for a, b in zip(*(sink.records for sink in bench.sinks), strict=True))


def test_each_sink_gets_the_frames_of_one_read_at_once() -> None:
    bench = Bench()
    bench.handle_frames(*(trade(number) for number in range(50)))
    bench.handle_frames(trade(50))
    assert [sink.reads for sink in bench.sinks] == [2, 2]


MINI_TICKER = (
    '{"e":"24hrMiniTicker","E":1,"s":"%s","c":"1","o":"1","h":"1","l":"1","v":"1","q":"1"}'
)


def test_names_beyond_a_bound_are_invalid_and_the_known_ones_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "MAX_MARKET_SYMBOLS", 2)
    bench = Bench()
    for time, names in enumerate(("AB", "CA"), 1):
        members = ",".join(MINI_TICKER % f"{name}USDT" for name in names)
        members = members.replace('"E":1', f'"E":{time}')
        bench.handle_frames(f'{{"stream":"!miniTicker@arr","data":[{members}]}}')
    events = [json.loads(record.value) for record in bench.sinks[0].records]
    kinds = [event["message_type"] for event in events]
    assert kinds == ["mini_ticker", "mini_ticker", "invalid", "mini_ticker"]
    assert events[2]["reason"] == "wrong_symbol"
    assert "CUSDT" in events[2]["payload"]
    bench.check()


def test_of_a_market_wide_stream_the_symbols_of_other_shards_are_left_out() -> None:
    bench = Bench()
    bench.pipeline.has_symbol = "BUSDT".__ne__
    members = ",".join(MINI_TICKER % f"{name}USDT" for name in "ABC")
    bench.handle_frames(f'{{"stream":"!miniTicker@arr","data":[{members}]}}')
    symbols = [json.loads(record.value)["symbol"] for record in bench.sinks[0].records]
    assert symbols == ["AUSDT", "CUSDT"]
    assert bench.arrivals.events == 2
    bench.check()


def test_an_array_is_an_event_for_each_member_and_a_bad_one_costs_itself() -> None:
    bench = Bench()
    members = f'{MINI_TICKER % "AUSDT"},{{"e":"24hrMiniTicker"}},{MINI_TICKER % "BUSDT"}'
    bench.handle_frames(f'{{"stream":"!miniTicker@arr","data":[{members}]}}')
    assert bench.pipeline.counts.received == {"mini_ticker": 2, "invalid": 1}
    assert bench.pipeline.counts.invalid == {"mistyped": 1}
    bench.check()


def test_a_flood_of_invalid_frames_is_counted_and_not_published(journal: Journal) -> None:
    """It would take the place of the trades in the buffers of the sinks."""
    bench = Bench()
    most = pipeline.MAX_INVALID_PER_SECOND
    for _ in range(3):
        bench.handle_frames(*["{"] * most, trade(1), *["{"] * most)
    names = [f"S{number}USDT" for number in range(10 * most)]
    bench.handle_frames(
        json.dumps({"stream": "!miniTicker@arr", "data": [{"s": n} for n in names]})
    )
    assert bench.pipeline.counts.invalid == {"malformed": 6 * most, "mistyped": 10 * most}
    assert bench.pipeline.counts.received == {"trade": 1, "invalid": most}
    bench.check()
    (entry,) = journal.named("invalid_frames_limited")
    assert entry["events_per_second"] == most
    bench.handle_frames("{", received=NOW + 1_000_000)
    assert bench.pipeline.counts.received["invalid"] == most + 1


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("{", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"x" * (MAX_FRAME_BYTES + 1), "oversized"),
        (trade(1, "ethusdt@trade"), "unknown_stream"),
        (f'{{"stream":"{NAME}","data":{{}}}}', "mistyped"),
    ],
    ids="json utf8 oversized stream fields".split(),
)
def test_a_bad_frame_is_an_invalid_event_and_the_next_goes_on(
    frame: str | bytes, reason: str
) -> None:
    bench = Bench()
    bench.handle_frames(trade(1), frame, trade(2))
    assert bench.pipeline.counts.invalid == {reason: 1}
    assert bench.pipeline.counts.received == {"trade": 2, "invalid": 1}
    assert bench.sinks[0].ids() == [1, 2]
    (event,) = [event for event in bench.sinks[0].events if isinstance(event, Invalid)]
    assert event.reason == reason
    bench.check()


def test_what_is_not_even_text_is_counted_and_handed_on() -> None:
    bench = Bench()
    bench.pipeline.handle_invalid(InvalidFrame("binary", "2 bytes"), b"\x00\xff", NOW)
    assert bench.pipeline.counts.invalid == {"binary": 1}
    assert [sink.reads for sink in bench.sinks] == [1, 1]
    bench.check()


def test_frames_about_the_connection_are_no_events() -> None:
    bench = Bench()
    bench.handle_frames(
        '{"result":null,"id":1}',
        '{"error":{"code":2,"msg":"no"},"id":null}',
        '{"e":"serverShutdown","E":1}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
    )
    assert [type(message) for message in bench.control] == [Reply] * 2 + [ServerShutdown] * 2
    assert bench.pipeline.counts.received == {}


class Careful(Decoder):
    """A decoder without the fast path."""

    def __init__(self, streams: Iterable[Stream]) -> None:
        super().__init__(streams)
        self.read = self._refuse

    def _refuse(self, _frame: bytes) -> NoReturn:
        raise msgspec.DecodeError


FRAMES = st.one_of(
    st.integers(1, 12).map(lambda number: trade(number).encode()),
    st.integers(1, 12).map(lambda number: quote(number, QUOTES).encode()),
    st.sampled_from(
        [
            b"{",
            trade(5).replace("BTCUSDT", "ETHUSDT").encode(),
            trade(5).replace("0.02", "0,02").encode(),
            trade(5).encode() + b" " * MAX_FRAME_BYTES,
            b'{"result":null,"id":1}',
        ]
    ),
)


@repeatable
@given(st.lists(st.lists(FRAMES, max_size=8), max_size=8))
def test_the_short_way_of_a_frame_leads_where_the_careful_one_does(
    reads: list[list[bytes]],
) -> None:
    short, careful = Bench(), Bench()
    careful.decoder = Careful(STREAMS)
    for frames in reads:
        short.handle_frames(*frames)
        careful.handle_frames(*frames)
    for bench in (short, careful):
        bench.check()
    assert [r.value for r in short.sinks[0].records] == [r.value for r in careful.sinks[0].records]
    assert short.pipeline.counts.invalid == careful.pipeline.counts.invalid
    assert short.arrivals.events == careful.arrivals.events
    assert short.arrivals.duplicates == careful.arrivals.duplicates
    assert short.control == careful.control
    assert short.decoder.last_received() == careful.decoder.last_received()


def test_a_stream_that_is_taken_away_ends_at_once() -> None:
    bench = Bench()
    bench.handle_frames(trade(1), trade(2))
    bench.pipeline.set_streams([parse_stream(QUOTES)], {})
    bench.handle_frames(trade(3), quote(1, QUOTES))
    assert bench.sinks[0].ids() == [1, 2]
    assert bench.pipeline.counts.received == {"trade": 2, "quote": 1}
    bench.check()


def test_what_sets_a_latest_value_goes_by_the_streams_as_they_are_now() -> None:
    bench = Bench()
    bench.handle_frames(quote(1, QUOTES), quote(2, QUOTES))
    (quotes,) = {record.route for record in bench.sinks[0].records}
    bench.pipeline.set_streams([*STREAMS, parse_stream("btcusdt@aggTrade")], {})
    bench.handle_frames(quote(3, QUOTES))
    assert bench.sinks[0].records[-1].route is not quotes


def test_what_is_still_on_its_way_of_a_stream_taken_away_is_dropped() -> None:
    """This holds for any number of frames: the fast path asks for their ids like any others."""
    bench = Bench()
    bench.handle_frames(trade(1))
    bench.pipeline.set_streams([parse_stream(QUOTES)], {})
    bench.handle_frames(trade(2), trade(3), quote(1, QUOTES), quote(2, QUOTES), trade(4))
    assert bench.pipeline.counts.received == {"trade": 1, "quote": 2}
    bench.check()


@repeatable
@given(st.lists(st.integers(-3 * AHEAD_MS, 3 * AHEAD_MS), min_size=1), st.sampled_from([1, 1000]))
def test_the_short_way_makes_the_records_that_the_careful_one_makes(
    leads_ms: list[int], unit_us: int
) -> None:
    """Check trades in order, with times long before and far after their arrival, and quotes."""
    bench, router = Bench(), Router(STREAMS, "{venue}.{message_type}")
    for number, lead_ms in enumerate(leads_ms):
        time = (NOW + lead_ms * 1000) // unit_us
        bench.handle_frames(
            trade(number).replace(f'"T":{NOW // 1000}', f'"T":{time}'), quote(number, QUOTES)
        )
    records = bench.sinks[0].records
    assert len(records) == 2 * len(leads_ms)
    for record in records:
        event = msgspec.json.decode(record.value, type=AnyEvent)
        careful = router.record(event)
        assert record.route.route_key == careful.route.route_key
        assert astuple(record)[1:] == astuple(careful)[1:]


def test_the_accounts_hold_over_a_recorded_market(captures: Path) -> None:
    capture = Capture.read(captures / "spot" / "btcusdt_20240808.gz")
    streams = [parse_stream(name) for name in {frame.stream for frame in capture.frames}]
    sink = Recorder()
    pipeline = Pipeline(
        SPOT, Router(streams, "{venue}.{message_type}"), Sequencers(streams), [sink]
    )
    frames = [
        b'{"stream":"%s","data":%s}' % (frame.stream.encode(), frame.payload)
        for frame in capture.frames
    ]
    decoder = Decoder(streams)
    for start in range(0, len(frames), 500):
        pipeline.handle_frames(
            decoder, frames[start : start + 500], NOW, lambda _: None, Arrivals()
        )
    assert sum(pipeline.counts.received.values()) == len(sink.records) == len(frames)
    assert pipeline.counts.received["trade"] == 9757
    assert pipeline.counts.invalid == {}
