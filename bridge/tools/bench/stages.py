"""The CPU time of each stage in this process, and of the bare library call in a loop.

`thread_time` counts the CPU time of the thread, kernel included, and no waiting. The cheapest of
several rounds counts, because every disturbance makes a round longer.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.core.binance import wire
from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import Event
from bridge.core.model.stream import SPOT, Stream
from bridge.core.records.record import Record, Route, Router
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.sequencers import Sequencers
from bridge.pipeline.pipeline import Pipeline
from bridge.sinks.memory import MemorySink
from bridge.sinks.outbox.outbox import Outbox
from bridge.telemetry import SinkCounts
from bridge.tools.bench.workload import Load, read_source
from bridge.tools.simulator.batch import Batch, Form

ROUNDS = 5
# About the number of frames in one read of a busy socket.
CHUNK_FRAMES = 200
TOPIC = "{venue}.{message_type}"
# About the number of reads that wait for an acknowledgement under full load. With all of them in
# memory, the loop would measure the allocation of memory.
HELD_READS = 25
_BOUNDLESS = 2**40
_PAYLOADS: dict[str, type[msgspec.Struct]] = {
    "trade": wire.Trade,
    "bookTicker": wire.BookTicker,
    "depth": wire.Depth,
}

Stopwatch = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Material:
    """One round of a workload, in every form that a stage takes as input."""

    streams: Sequence[Stream]
    frames: Sequence[bytes]
    events: Sequence[Event]
    records: Sequence[Record]


class OutboxSink(MemorySink):
    """The outbox alone. An empty one replaces it after every HELD_READS reads."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(_BOUNDLESS, SinkCounts())
        self._reads = 0

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:  # noqa: ARG002
        if self._reads % HELD_READS == 0:
            self.outbox = Outbox(_BOUNDLESS, SinkCounts())
        self._reads += 1
        self.outbox.extend(records)

    def pending(self) -> Counter[str]:
        return self.outbox.pending()


def material(load: Load, frames: int) -> Material:
    """Return the first frames of a load, with their events and records."""
    source = read_source(load)
    names = [f"{symbol.lower()}@{kind}" for symbol in source.symbols for kind in load.streams]
    streams = [parse_stream(name) for name in names]
    texts = Batch(source.take(None, frames)).texts(names, Form(combined=True, microseconds=False))
    sink = MemorySink()
    Pump(streams, sink).run(texts)
    return Material(streams, texts, sink.events, sink.records)


async def least(frames: int, rounds: int, work: Callable[[], Awaitable[None]]) -> float:
    """Return the microseconds per frame of the cheapest round."""
    costs = []
    for _ in range(rounds):
        began = time.thread_time()
        await work()
        costs.append(time.thread_time() - began)
    return min(costs) / frames * 1e6


async def frame_to_record(material: Material, rounds: int) -> float:
    """Measure decode, normalise, sequence, encode and push, in microseconds per frame.

    The first event of a stream costs more than a later one. So only the second half of the frames
    is measured.
    """
    half = len(material.frames) // 2
    pumps = [Pump(material.streams, OutboxSink()) for _ in range(rounds)]
    for pump in pumps:
        pump.run(material.frames[:half])
    left, frames = iter(pumps), material.frames[half:]

    async def ours() -> None:
        next(left).run(frames)

    return await least(len(frames), rounds, ours)


async def record_floor(material: Material, rounds: int) -> float:
    """Measure msgspec alone on the same bytes, in microseconds per frame."""
    prepared = list(_prepared(material))
    encode = msgspec.json.Encoder().encode

    async def floor() -> None:
        for decode, frame, event in prepared:
            decode(frame)
            encode(event)

    return await least(len(material.frames), rounds, floor)


class Pump:
    """The way from a frame to its record, without sockets."""

    def __init__(self, streams: Sequence[Stream], sink: MemorySink) -> None:
        self._decoder, self._arrivals = Decoder(streams), Arrivals()
        self._pipeline = Pipeline(SPOT, Router(streams, TOPIC), Sequencers(streams), [sink])

    def run(self, frames: Sequence[bytes]) -> None:
        received = time.time_ns() // 1000
        for begin in range(0, len(frames), CHUNK_FRAMES):
            chunk = frames[begin : begin + CHUNK_FRAMES]
            self._pipeline.handle_frames(self._decoder, chunk, received, _ignore, self._arrivals)


def _prepared(material: Material) -> Any:
    """Yield the decoder of each frame, the frame, and the event to encode."""
    decoders: dict[bytes, Any] = {}
    for stream in material.streams:
        fields = [("data", _PAYLOADS[stream.payload])]
        envelope = msgspec.defstruct("Envelope", fields, frozen=True, gc=False)
        decoders[stream.name.encode()] = msgspec.json.Decoder(envelope).decode
    for frame, event in zip(material.frames, material.events, strict=True):
        yield decoders[frame.split(b'"', 4)[3]], frame, event


def _ignore(_message: object) -> None:
    """Ignore messages about the connection: a workload has none."""
