"""Compare every recorded frame with an independent decoding of it."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.records.record import Router
from bridge.errors import InvalidFrame
from tests.support.events import TEMPLATE, decode_both_ways, decoder, events, published
from tests.support.reading import read

CAPTURES = {
    "btcusdt_20240808.gz": {"trade": 9_757, "quote": 28_040, "book_delta": 3_451},
    "ethusdt_20240808.gz": {"trade": 6_106, "quote": 24_077, "book_delta": 3_434},
    "altcoins_20210417.gz": {"agg_trade": 24, "quote": 570, "book_delta": 614, "candle": 20},
    "altcoins_20211012.gz": {"agg_trade": 2, "quote": 84, "book_delta": 177, "candle": 2},
}
# `e` of a frame without an envelope, and the suffix of its stream.
RAW = {"trade": "trade", "24hrMiniTicker": "miniTicker", "referencePrice": "referencePrice"}


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the arrival in microseconds and the frame of each line, without snapshots and URL."""
    with gzip.open(path) as file:
        for line in file:
            time, _, frame = line.rstrip().partition(b" ")
            if frame.startswith(b'{"stream"'):
                unit = 1_000_000 if time.endswith(b":") else 0.001
                yield int(float(time.rstrip(b":")) * unit), frame


def observed(captures: Path, market: str) -> list[str]:
    text = (captures / "frames" / "frames.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return [row["frame"] for row in rows if row["market"] == market]


@pytest.mark.parametrize("name", CAPTURES)
def test_every_frame_of_a_capture_becomes_the_event_it_is(captures: Path, name: str) -> None:
    frames = list(lines(captures / "spot" / name))
    streams = [parse_stream(name) for name in {json.loads(f)["stream"] for _, f in frames}]
    connector, router = Decoder(streams), Router(streams, TEMPLATE)
    count: Counter[str] = Counter()
    for received, frame in frames:
        (event,) = events(decode_both_ways(connector, frame, received))
        record = router.record(event)
        assert [json.loads(record.value)] == read(frame, received)
        count[record.route.message_type] += 1
    assert count == CAPTURES[name]
    assert count.total() == len(frames)


def test_every_single_frame_is_an_event_or_about_the_connection(captures: Path) -> None:
    kinds: Counter[str] = Counter()
    for frame in observed(captures, "spot"):
        fields = json.loads(frame)
        if "stream" not in fields and fields.get("e") in RAW:
            stream = f"{fields['s'].lower()}@{RAW[fields['e']]}"
            frame = f'{{"stream":"{stream}","data":{frame}}}'  # noqa: PLW2901 - as a connector has it
        if '"stream":"!serverShutdown"' in frame or '"stream"' not in frame:
            control = decoder().decode(frame.encode(), 1)
            assert isinstance(control, Reply | ServerShutdown)
            kinds[type(control).__name__] += 1
        else:
            assert published(frame) == read(frame, published(frame)[0]["received"])
            kinds["event"] += 1
    assert kinds == {"event": 15, "ServerShutdown": 2, "Reply": 4}


@pytest.mark.parametrize("market", ["usdm", "coinm"])
def test_frames_of_other_markets_never_raise_anything_else(captures: Path, market: str) -> None:
    for frame in observed(captures, market):
        with pytest.raises(InvalidFrame):
            decoder("ltcbtc@trade").decode(frame.encode(), 1)
