"""What the feed brings before there is a pipeline reaches it in the same order, and once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.binance import frame_buffer
from bridge.binance.connection import FrameHandler
from bridge.binance.frame_buffer import FrameBuffer
from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.model.events import Quote
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.handover import Handover
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import InvalidFrame
from bridge.pipeline.pipeline import Pipeline
from bridge.telemetry import FeedCounts, Histogram
from tests.support.exchange import NAME, Recorder, quote, trade

NOW = 1_790_000_000_000_000
QUOTES = "btcusdt@bookTicker"
STREAMS = [parse_stream(NAME), parse_stream(QUOTES)]

LATENCY = Histogram()
Report = Callable[[FrameHandler], None]


async def next_turn() -> None:
    await asyncio.sleep(0)


class Bench:
    """A pipeline with a sink, and what the connections were told."""

    def __init__(self) -> None:
        self.sink = Recorder()
        self.buffer = FrameBuffer(FeedCounts())
        router = Router(STREAMS, "{message_type}")
        self.pipeline = Pipeline(SPOT, router, Sequencers(STREAMS), [self.sink], self.buffer.counts)
        self.decoder = Decoder(STREAMS)
        self.arrivals = Arrivals()
        self.control: list[Reply | ServerShutdown] = []
        self.handover: Handover | None = None

    def arrive(self, handler: FrameHandler, frames: list[str], received: int = NOW) -> None:
        handler.handle_frames(
            self.decoder,
            [frame.encode() for frame in frames],
            received,
            self.control.append,
            self.arrivals,
            handover=self.handover,
        )

    def buffer_all(self, *frames: str, received: int = NOW) -> None:
        """Let frames arrive one by one in the buffer."""
        for frame in frames:
            self.arrive(self.buffer, [frame], received)

    async def release(self, room: Callable[[], Awaitable[None]] = next_turn) -> None:
        await self.buffer.release(self.pipeline, room)

    def published(self) -> list[bytes]:
        return [record.value for record in self.sink.records]


def reports_of(bench: Bench, steps: list[str]) -> list[Report]:
    """Return what a feed reports in these steps."""
    reports: list[Report] = []
    for number, step in enumerate(steps):
        received = NOW + number
        if step == "interrupt":
            reports.append(lambda handler: handler.mark_interrupted(iter(STREAMS), "closed"))
        elif step == "binary":
            reports.append(partial(_report_binary, received=received))
        else:
            frames = {
                "trade": [trade(number)],
                "quotes": [quote(2 * number, QUOTES), quote(2 * number + 1, QUOTES)],
                "malformed": ['{"stream":"btcusdt@trade","data":', "[]"],
                "reply": ['{"result":null,"id":1}', trade(number)],
            }[step]
            reports.append(partial(bench.arrive, frames=frames, received=received))
    return reports


def _report_binary(handler: FrameHandler, received: int) -> None:
    handler.handle_invalid(InvalidFrame("binary", "3 bytes"), b"abc", received)


STEPS = st.lists(
    st.sampled_from(["trade", "quotes", "malformed", "reply", "interrupt", "binary"]), max_size=30
)


@given(steps=STEPS, begin=st.integers(0, 30))
def test_a_pipeline_that_comes_late_publishes_the_same(steps: list[str], begin: int) -> None:
    direct, late = Bench(), Bench()
    for report in reports_of(direct, steps):
        report(direct.pipeline)
    reports = reports_of(late, steps)
    for report in reports[:begin]:
        report(late.buffer)
    assert late.published() == []
    asyncio.run(late.release())
    for report in reports[begin:]:
        report(late.buffer)
    assert late.published() == direct.published()
    assert late.control == direct.control
    assert _without_latency(late.pipeline.counts) == _without_latency(direct.pipeline.counts)


def _without_latency(counts: FeedCounts) -> FeedCounts:
    return replace(counts, latency=LATENCY)


def test_a_message_about_the_connection_does_not_wait() -> None:
    bench = Bench()
    bench.arrive(bench.buffer, ['{"e":"serverShutdown","E":1}', trade(1)])
    assert [type(message) for message in bench.control] == [ServerShutdown]


def test_the_arrival_of_a_stream_is_known_before_its_frames_are_decoded() -> None:
    bench = Bench()
    bench.buffer_all(quote(1, QUOTES))
    assert bench.decoder.last_received() == {QUOTES: NOW}


async def test_what_arrives_during_the_release_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_buffer, "SLICE_BYTES", 1)
    bench = Bench()
    bench.buffer_all(trade(1))
    bench.buffer_all(trade(2))
    releasing = asyncio.ensure_future(bench.release())
    await asyncio.sleep(0)
    assert bench.sink.ids() == [1]
    bench.buffer_all(trade(3))
    await releasing
    bench.buffer_all(trade(4))
    assert bench.sink.ids() == [1, 2, 3, 4]


async def test_each_slice_waits_until_the_sinks_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_buffer, "SLICE_BYTES", 2 * len(trade(1)))
    bench = Bench()
    bench.buffer_all(*map(trade, range(1, 6)))
    seen: list[list[int]] = []

    async def room() -> None:
        seen.append(bench.sink.ids())

    await bench.release(room)
    assert seen == [[1, 2], [1, 2, 3, 4]]
    assert bench.sink.ids() == [1, 2, 3, 4, 5]


async def test_beyond_its_bounds_only_the_last_frame_of_each_stream_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    monkeypatch.setattr(frame_buffer, "MAX_BYTES", 3 * len(trade(1)))
    bench.buffer_all(quote(7, QUOTES), *map(trade, range(1, 6)))
    assert bench.buffer.dropped == [QUOTES, NAME]
    await bench.release()
    quotes = [event for event in bench.sink.events if isinstance(event, Quote)]
    assert [quote.update_id for quote in quotes] == [7]
    assert bench.sink.ids() == [2, 3, 4, 5]


async def test_frames_that_are_too_old_are_dropped_except_the_last_one() -> None:
    bench = Bench()
    for number in range(1, 6):
        received = NOW + number * frame_buffer.MAX_AGE_US // 2
        bench.buffer_all(trade(number), received=received)
    await bench.release()
    assert bench.sink.ids() == [2, 3, 4, 5]


async def test_the_last_frame_before_an_interruption_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the interruption it would prove nothing."""
    bench = Bench()
    bench.buffer_all(trade(1))
    bench.buffer.mark_interrupted(STREAMS, "closed")
    monkeypatch.setattr(frame_buffer, "MAX_BYTES", len(trade(1)))
    bench.buffer_all(trade(2), trade(3))
    await bench.release()
    assert bench.sink.ids() == [2, 3]


async def test_since_an_interruption_it_is_whole_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    began = bench.buffer.whole_since
    bench.buffer.mark_interrupted([], "closed")
    assert bench.buffer.whole_since == began
    await bench.release()
    assert bench.buffer.is_passing
    monkeypatch.setattr(frame_buffer, "now_us", lambda: began + 7)
    bench.buffer.mark_interrupted(STREAMS, "closed")
    assert bench.buffer.whole_since == began + 7


async def test_after_a_dropped_end_of_a_handover_no_frame_waits_for_the_older_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.handover = Handover([QUOTES])
    bench.buffer.finish_handover(bench.handover, "closed", bench.arrivals, ())
    monkeypatch.setattr(frame_buffer, "MAX_BYTES", 0)
    bench.buffer_all(quote(1, QUOTES))
    monkeypatch.undo()
    bench.buffer_all(quote(2, QUOTES))
    await bench.release()
    assert [b'"update_id":2' in value for value in bench.published()] == [False, True]
