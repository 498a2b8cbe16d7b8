"""`tickbridge record`."""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    Config,
    Streams,
    Symbols,
    examples,
    run_async,
    stopped_by_signal,
    subscription,
)
from bridge.errors import TickbridgeError

if TYPE_CHECKING:
    from bridge.binance.feed import Feed
    from bridge.settings import Binance
    from bridge.tools.recorder import Recorder
    from bridge.tools.simulator import CaptureWriter

NAMED_MAX = 10  # limit of the streams without data in the summary


class RecordingFailed(TickbridgeError):
    """The recording cannot be written to its file."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error.strerror or error}")


def add_to(app: typer.Typer) -> None:
    app.command(
        "record",
        epilog=examples(
            "tickbridge record --out btc.gz --symbols BTCUSDT --streams trade,depth@100ms",
            "tickbridge record --out hour.gz --seconds 3600 -c tickbridge.yaml",
            "tickbridge simulate --capture btc.gz",
        ),
    )(record)


def record(
    *,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="New file to write; compressed with gzip if its name ends in .gz.",
        ),
    ],
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1, show_default=False, help="Stop after this time; by default at Ctrl-C."
        ),
    ] = None,
    symbols: Symbols = None,
    streams: Streams = None,
    config: Config = None,
) -> None:
    """Record raw frames with their receive times, in the format that `simulate --capture` plays.

    Writes one line per frame: nanoseconds since 1970, a space, the frame.

    Exits with 1 if no frame is received.
    """
    from bridge.monitoring import logs
    from bridge.settings import load_settings

    if out.is_file():
        raise typer.BadParameter(f"{out} exists already; use a new file", param_hint="--out")
    # One line only: the file gets every frame that arrives, and a second line would write each
    # frame twice.
    chosen = {"redundancy": 1} | subscription(symbols, streams)
    settings = load_settings(config, overrides={"binance": chosen})
    logs.configure(settings.log)
    received = run_async(_record(settings.binance, out, seconds))
    if not received:
        raise typer.Exit(1)


async def _record(options: "Binance", out: Path, seconds: float | None) -> int:
    """Record until stopped, and return the number of frames."""
    import asyncio

    from bridge.tools.recorder import Recorder

    stopped = stopped_by_signal()
    began_s = time.monotonic()
    writer = _create(out)
    recorder = Recorder(writer, stopped)
    feed = RecordedFeed(options, recorder)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(feed.run(), name="feed")
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stopped.wait()
            running.cancel()
    finally:
        _close(writer, recorder, out)
    typer.echo(_summary(recorder, feed, out, time.monotonic() - began_s), err=True)
    if recorder.error:
        raise RecordingFailed(out, recorder.error)
    return recorder.frames


class RecordedFeed:
    """The feed, which exists once the streams are known."""

    def __init__(self, options: "Binance", recorder: "Recorder") -> None:
        self._options = options
        self._recorder = recorder
        self._feed: Feed | None = None

    async def run(self) -> None:
        from bridge.binance.feed import Feed
        from bridge.binance.listing import find_streams
        from bridge.binance.rest import Rest

        async with Rest(self._options) as rest:
            found = await find_streams(self._options, rest)
        self._feed = Feed(self._options)
        self._feed.add(self._recorder, found.streams)
        await self._feed.run()

    def without_data(self) -> list[str]:
        return self._feed.without_data() if self._feed else []


def _create(out: Path) -> "CaptureWriter":
    from bridge.tools.simulator import CaptureWriter

    try:
        return CaptureWriter(out)
    except OSError as error:
        raise RecordingFailed(out, error) from error


def _close(writer: "CaptureWriter", recorder: "Recorder", out: Path) -> None:
    """Close the file, and delete it if it is empty, because it would prevent the next attempt."""
    try:
        writer.close()
    except OSError as error:  # from writing the rest of the buffer
        recorder.error = error
    if not recorder.frames and out.is_file():
        out.unlink()


def _summary(recorder: "Recorder", feed: RecordedFeed, out: Path, seconds: float) -> str:
    counts, without_data = recorder.counts, feed.without_data()
    names = ", ".join(without_data[:NAMED_MAX])
    more = f" and {len(without_data) - NAMED_MAX} more" if len(without_data) > NAMED_MAX else ""
    parts = [
        f"{recorder.frames} frames, {recorder.size_bytes} bytes in {seconds:.1f} s to {out}",
        f"unreadable frames left out: {recorder.left_out}" if recorder.left_out else "",
        f"connections failed or lost: {counts.reconnects.total()}" if counts.reconnects else "",
        f"without data: {names}{more}" if without_data else "",
    ]
    return "; ".join(part for part in parts if part)
