"""Makes a frame several times a second, and gives each viewer the newest one."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import msgspec

from bridge.core.model.events import Gap, SymbolStatus
from bridge.monitoring.dashboard.health import HealthMonitor
from bridge.monitoring.dashboard.market import SAMPLE_S, Cells, Market, Row
from bridge.monitoring.report import StreamReport
from bridge.monitoring.status import Status
from bridge.pipeline.pipeline import Pipeline
from bridge.sinks.kafka.sink import KafkaSink
from bridge.telemetry import now_us

FRAME_S = 0.2
HEALTH_S = 1.0
# The events of the streams wait while the history of this many symbols is encoded.
SLICE = 100
_encode = msgspec.json.Encoder().encode


class _Prices(msgspec.Struct):
    """The rows of the table of prices: all of them, or those that have changed."""

    symbols: dict[str, Cells]
    removed: list[str]


class _Symbol(msgspec.Struct):
    """All that is known of one symbol: its last events, and its last trades as JSON."""

    now: int
    symbol: str
    is_known: bool
    status: SymbolStatus | None
    streams: list[StreamReport]
    price: Any
    quote: Any
    day: Any
    book: Any
    trades: list[msgspec.Raw]


class Dashboard:
    """All that viewers of one bridge see, and the task that keeps it up to date."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._market = Market()
        self._health = HealthMonitor(status, time.monotonic())
        self._listed: set[str] = set()
        self._viewers = 0
        self._has_viewers = asyncio.Event()
        self._is_over = False
        # What the next frame has besides prices.
        self._news = b""
        self._has_new_gaps = False
        # The newest frame: its number, what has changed since the one before, and what viewers have
        # asked for. The next one replaces it, even if some viewers do not have it by then.
        self._number = 0
        self._delta = self._health_text = b""
        self._rendered: dict[str | None, bytes] = {}
        self._next_frame = asyncio.Event()

    def watch(self, pipeline: Pipeline, kafka: KafkaSink) -> None:
        """Show what this pipeline and this sink publish."""
        pipeline.add_listener(self._market.push)
        pipeline.on_gap = self._note_gap
        kafka.watch_gaps(self._note_gap)

    async def run(self) -> None:
        """Sample prices and figures, and make frames while there are viewers, until cancelled."""
        clock = time.monotonic
        sample_due_s, health_due_s = clock() + SAMPLE_S, 0.0
        while True:
            await self._pause(sample_due_s - clock())
            if clock() >= sample_due_s:
                sample_due_s = clock() + SAMPLE_S
                self._sample()
            if not self._viewers:
                self._news = b""
            else:
                is_due = clock() >= health_due_s
                if is_due:
                    health_due_s = clock() + HEALTH_S
                self._make_frame(with_health=is_due)

    def end(self) -> None:
        """End the streams of all viewers."""
        self._is_over = True
        self._next_frame.set()

    async def frames(self, symbol: str | None) -> AsyncGenerator[bytes, None]:
        """Yield frames as server-sent events, with all of `symbol` if there is one, until `end`.

        The first one is whole. A viewer that takes longer than a frame lasts misses frames, and
        then gets a whole one.
        """
        with self._viewing(), self._market.looked_at(symbol) if symbol else nullcontext():
            seen = -1
            await self._next_frame.wait()
            while not self._is_over:
                body = self._delta if self._number == seen + 1 else self._whole()
                seen = self._number
                yield body + (self._symbol(symbol) if symbol else b"")
                if seen == self._number and not self._is_over:
                    await self._next_frame.wait()
            yield _event("end", None)

    async def history(self) -> bytes:
        """Return the prices of the last ten minutes by symbol, as JSON."""
        rows, parts = list(self._market.rows.items()), []
        for begin in range(0, len(rows), SLICE):
            prices = {name: list(row.prices) for name, row in rows[begin : begin + SLICE]}
            parts.append(_encode(prices)[1:-1])
            await asyncio.sleep(0)
        return b"{%b}" % b",".join(parts)

    @contextmanager
    def _viewing(self) -> Iterator[None]:
        self._viewers += 1
        self._has_viewers.set()
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._has_viewers.clear()

    async def _pause(self, at_most_s: float) -> None:
        """Wait for the next frame, or without viewers for the next sample."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, at_most_s)):
                await self._has_viewers.wait()
        await asyncio.sleep(FRAME_S)

    def _sample(self) -> None:
        self._market.sample()
        self._news += _event("sample", self._health.sample(now_us(), time.monotonic()))

    def _note_gap(self, gap: Gap) -> None:
        self._health.note_gap(gap)
        self._has_new_gaps = True

    def _make_frame(self, *, with_health: bool) -> None:
        """Make the next frame, and wake the viewers."""
        changed = self._market.changed()
        listed = set(self._status.symbols)
        removed = self._listed - listed
        self._listed = listed
        self._market.remove(removed)
        rows = self._market.rows
        cells = {symbol: rows[symbol].cells() for symbol in changed if symbol in rows}
        self._delta = _event("prices", _Prices(cells, sorted(removed)))
        if with_health or not self._health_text:
            self._health_text = _event("health", self._health.look())
            self._news += self._health_text
        if self._has_new_gaps:
            self._news += _event("gaps", list(self._health.gaps))
        self._delta += self._news
        self._news, self._has_new_gaps = b"", False
        self._rendered.clear()
        self._number += 1
        newest, self._next_frame = self._next_frame, asyncio.Event()
        newest.set()

    def _whole(self) -> bytes:
        """Return all prices and figures, encoded once for each frame."""
        if None not in self._rendered:
            cells = {symbol: row.cells() for symbol, row in self._market.rows.items()}
            prices = _event("all_prices", _Prices(cells, []))
            samples = _event("all_samples", list(self._health.samples))
            gaps = _event("gaps", list(self._health.gaps))
            self._rendered[None] = prices + self._health_text + samples + gaps
        return self._rendered[None]

    def _symbol(self, symbol: str) -> bytes:
        """Return all of one symbol, encoded once for each frame."""
        if symbol not in self._rendered:
            row, status = self._market.rows.get(symbol), self._status.symbols.get(symbol)
            streams = self._health.streams(symbol)
            known = row or Row()
            contents = _Symbol(
                now=now_us(),
                symbol=symbol,
                is_known=bool(row or status or streams),
                status=status,
                streams=streams,
                price=known.price,
                quote=known.quote,
                day=known.day,
                book=known.book,
                trades=self._market.trades(symbol),
            )
            self._rendered[symbol] = _event("symbol", contents)
        return self._rendered[symbol]


def _event(name: str, contents: Any) -> bytes:
    """Return one server-sent event. JSON has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(contents))
