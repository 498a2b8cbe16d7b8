"""`record`: it writes unchanged frames to a file that the simulator can play."""

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.binance.feed import Feed
from bridge.cli.record import RecordedFeed
from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import parse_stream, stream_of
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import FeedRefused, InvalidFrame
from bridge.pipeline.pipeline import Pipeline
from bridge.settings import load_settings
from bridge.sinks.memory import MemorySink
from bridge.telemetry import now_us
from bridge.tools.embedded import free_port
from bridge.tools.recorder import Recorder
from bridge.tools.simulator import Capture, CaptureWriter, Replay, SimulatedExchange
from bridge.tools.simulator.capture import Frame
from tests.cli.conftest import Run, ended, process

TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1.0",'
    b'"q":"1.0","T":1,"m":true,"M":true}}'
)


def test_a_recording_can_be_played(tickbridge: Run, simulator: Path, tmp_path: Path) -> None:
    out = tmp_path / "market.gz"
    result = tickbridge("record", "--out", str(out), "--seconds", "1.5", "-c", str(simulator))
    assert result.exit_code == 0
    assert result.stdout == ""
    capture = Capture.read(out)
    assert capture.skipped == 0
    assert {"btcusdt@trade", "btcusdt@bookTicker"} <= {frame.stream for frame in capture.frames}
    assert abs(capture.frames[-1].received_us / 1e6 - time.time()) < 60
    assert f"{len(capture.frames)} frames, " in result.stderr


def test_a_recording_that_is_played_and_recorded_again_has_the_same_frames_and_events(
    tickbridge: Run, simulator: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first.gz", tmp_path / "again.gz"
    tickbridge("record", "--out", str(first), "--seconds", "1.5", "-c", str(simulator))
    frames = Capture.read(first).frames
    asyncio.run(_record_again(simulator, first, again, len(frames)))
    played = Capture.read(again).frames
    assert [frame.payload for frame in played] == [frame.payload for frame in frames]
    now = now_us()
    assert _events(played, now) == _events(frames, now)


async def _record_again(settings: Path, first: Path, again: Path, count: int) -> None:
    """Play a recording, and record it until there are `count` frames."""
    capture = Capture.read(first)
    streams = len({frame.stream for frame in capture.frames})
    async with (
        asyncio.timeout(60),
        SimulatedExchange(Replay([capture]), start_after_streams=streams) as exchange,
    ):
        urls = {"websocket_url": exchange.websocket_url, "rest_url": exchange.rest_url}
        options = load_settings(settings, overrides={"binance": urls}).binance
        with CaptureWriter(again) as writer:
            recorder = Recorder(writer, asyncio.Event())
            recording = asyncio.create_task(RecordedFeed(options, recorder).run())
            while recorder.frames < count:  # noqa: ASYNC110 - a counter only
                await asyncio.sleep(0.01)
            recording.cancel()


def _events(frames: Sequence[Frame], received: int) -> list[bytes]:
    """Return the events as a bridge publishes them, if all frames had arrived at `received`."""
    streams = [parse_stream(name) for name in {frame.stream for frame in frames}]
    sink = MemorySink()
    pipeline = Pipeline(SPOT, Router(streams, "{message_type}"), Sequencers(streams), [sink])
    texts = [
        b'{"stream":"%b","data":%b}' % (frame.stream.encode(), frame.payload) for frame in frames
    ]
    pipeline.handle_frames(Decoder(streams), texts, received, lambda _: None, Arrivals())
    return [record.value for record in sink.records]


def test_the_options_choose_symbols_and_streams(
    tickbridge: Run, simulator: Path, tmp_path: Path
) -> None:
    out = tmp_path / "market"
    choice = ("--symbols", "btcusdt", "--streams", "trade,blockTrade")
    result = tickbridge(
        *("record", "--out", str(out), "--seconds", "1", "-c", str(simulator), *choice)
    )
    assert result.exit_code == 0
    assert {frame.stream for frame in Capture.read(out).frames} <= {
        "btcusdt@trade",
        "btcusdt@blockTrade",
    }


def test_sigterm_leaves_nothing_unwritten(simulator: Path) -> None:
    with process("record", "--out", "/dev/stdout", "-c", str(simulator)) as running:
        assert running.stdout
        assert running.stderr
        lines = [running.stdout.readline()]  # arrives with the first full buffer
        assert ended(running, signal.SIGTERM) == 0
        lines += running.stdout.readlines()
        summary = running.stderr.read().decode()
    assert lines[-1].endswith(b"}}\n")
    assert f"{len(lines)} frames, " in summary


def test_nothing_received_is_exit_1_and_leaves_no_file(tickbridge: Run, tmp_path: Path) -> None:
    out = tmp_path / "market"
    nobody = f"localhost:{free_port()}"
    result = tickbridge(
        *("record", "--out", str(out), "--seconds", "0.2", "--symbols", "BTCUSDT"),
        TICKBRIDGE_BINANCE__WEBSOCKET_URL=f"ws://{nobody}",
        TICKBRIDGE_BINANCE__REST_URL=f"http://{nobody}",
    )
    assert result.exit_code == 1
    assert "0 frames" in result.stderr
    assert "connections failed or lost" in result.stderr
    assert not out.exists()


def test_a_refusal_is_told_with_its_remedy(
    tickbridge: Run, simulator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: Feed) -> None:
        raise FeedRefused("the exchange answers HTTP 451", "set binance.websocket_url")

    monkeypatch.setattr(Feed, "run", refused)
    result = tickbridge("record", "--out", str(tmp_path / "market"), "-c", str(simulator))
    assert result.exit_code == 2
    assert "HTTP 451; set binance.websocket_url" in result.stderr


def test_a_file_that_is_there_is_never_written_over(tickbridge: Run, tmp_path: Path) -> None:
    (out := tmp_path / "market").write_text("precious")
    result = tickbridge("record", "--out", str(out), "--symbols", "BTCUSDT")
    assert (result.exit_code, out.read_text()) == (2, "precious")


def test_a_file_that_cannot_be_made_is_named(tickbridge: Run, tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "market"
    result = tickbridge("record", "--out", str(out), "--symbols", "BTCUSDT")
    assert result.exit_code == 1
    assert f"{out} cannot be written: No such file" in result.stderr


def test_a_full_disk_ends_the_recording(tickbridge: Run, simulator: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    result = tickbridge("record", "--out", "/dev/full", "--seconds", "5", "-c", str(simulator))
    assert result.exit_code == 1
    assert "/dev/full cannot be written: No space left" in result.stderr


async def test_what_would_make_the_file_unreadable_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "market"
    decoder = Decoder([stream_of("BTCUSDT", "trade")])
    spread = TRADE.replace(b',"s"', b',\n"s"')
    mistyped = TRADE.replace(b'"t":1', b'"t":"one"')
    with CaptureWriter(out) as writer:
        recorder = Recorder(writer, asyncio.Event())
        recorder.handle_frames(
            decoder, [TRADE, b"{no json", spread, mistyped], 5, lambda _: None, Arrivals()
        )
        recorder.handle_invalid(InvalidFrame("binary", "1 byte"), b"\0", 5)
    assert [frame.received_us for frame in Capture.read(out).frames] == [5, 5, 5]
    assert (recorder.frames, recorder.left_out) == (3, 2)
