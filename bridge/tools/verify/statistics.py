"""The figures of one stream, and of the whole feed over time; all of bounded size."""

from decimal import Decimal
from typing import NamedTuple

import msgspec

from bridge.core.records.record import NO_IDENTITY, Record
from bridge.telemetry import FINE_BOUNDS_S, Histogram
from bridge.tools.verify.report import Latency, Moment, Range, StreamReport

# The longest latency that a histogram can measure.
LONGEST_MS = FINE_BOUNDS_S[-1] * 1000
# The points of a plot.
MAX_MOMENTS = 300


class _Numbers(msgspec.Struct):
    """The prices and volumes of an event, as far as its message type has them."""

    price: Decimal | None = None
    bid_price: Decimal | None = None
    ask_price: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    volume: Decimal | None = None
    bid_volume: Decimal | None = None
    ask_volume: Decimal | None = None


class _Fields(NamedTuple):
    """The fields of a message type that have its prices and its volumes."""

    prices: tuple[str, ...]
    volumes: tuple[str, ...] = ()


_TRADE = _Fields(("price",), ("volume",))
_FIELDS = {
    "trade": _TRADE,
    "agg_trade": _TRADE,
    "block_trade": _TRADE,
    "quote": _Fields(("bid_price", "ask_price"), ("bid_volume", "ask_volume")),
    "candle": _Fields(("low", "high"), ("volume",)),
    # Their volumes are those of a whole day.
    "ticker": _Fields(("price",)),
    "mini_ticker": _Fields(("price",)),
    "average_price": _Fields(("price",)),
    "reference_price": _Fields(("price",)),
}
_numbers = msgspec.json.Decoder(_Numbers).decode


class StreamStatistics:
    """The events of one message type and symbol; times in microseconds."""

    def __init__(self, message_type: str, symbol: str, received: int) -> None:
        self.message_type = message_type
        self.symbol = symbol
        self.latency = Histogram(FINE_BOUNDS_S)
        self._events = 0
        self._first = self._last = received
        self._longest = 0
        self._ids = (NO_IDENTITY, NO_IDENTITY)
        self._fields = _FIELDS.get(message_type)
        self._prices: Range | None = None
        self._volumes: Range | None = None

    def add(self, record: Record) -> None:
        """Count a record."""
        self._events += 1
        self._longest = max(self._longest, record.received - self._last)
        self._last = max(self._last, record.received)
        if record.identity != NO_IDENTITY:
            first = self._ids[0] if self._ids[0] != NO_IDENTITY else record.identity
            self._ids = (first, record.identity)
        if self._fields:
            numbers = _numbers(record.value)
            for field in self._fields.prices:
                self._prices = _wider(self._prices, getattr(numbers, field))
            for field in self._fields.volumes:
                self._volumes = _wider(self._volumes, getattr(numbers, field))

    def report(self, begun: int, ended: int) -> StreamReport:
        """Return the figures of the feed from `begun` to `ended`."""
        has_ids = self._ids[0] != NO_IDENTITY
        return StreamReport(
            message_type=self.message_type,
            symbol=self.symbol,
            events=self._events,
            per_second=self._events / (ended - begun) * 1e6,
            first_after_s=max(0, self._first - begun) / 1e6,
            longest_silence_s=max(self._longest, ended - self._last) / 1e6,
            first_id=self._ids[0] if has_ids else None,
            last_id=self._ids[1] if has_ids else None,
            prices=self._prices,
            volumes=self._volumes,
            latency=latency_of(self.latency),
        )


class Timeline:
    """Events and latencies over time, in at most MAX_MOMENTS moments of equal length.

    When there are more, each two neighbours are joined and the moments are twice as long.
    """

    def __init__(self) -> None:
        self._length_s = 1
        self._begin = 0
        self._events: list[int] = []
        self._latencies: list[Histogram] = []

    def add(self, received: int, events: int) -> None:
        """Count events that arrived at `received`, in microseconds."""
        place = self._place(received)
        self._events[place] += events

    def observe(self, received: int, latency_s: float) -> None:
        """Add a latency."""
        place = self._place(received)
        self._latencies[place].observe(latency_s)

    def moments(self) -> list[Moment]:
        """Return all moments, the oldest first."""
        return [
            Moment(
                at_s=place * self._length_s,
                length_s=self._length_s,
                events=events,
                latency=latency_of(latencies),
            )
            for place, (events, latencies) in enumerate(
                zip(self._events, self._latencies, strict=True)
            )
        ]

    def _place(self, received: int) -> int:
        self._begin = self._begin or received
        second = max(0, received - self._begin) // 1_000_000
        while (place := second // self._length_s) >= MAX_MOMENTS:
            self._join()
        while place >= len(self._events):
            self._events.append(0)
            self._latencies.append(Histogram(FINE_BOUNDS_S))
        return place

    def _join(self) -> None:
        self._length_s *= 2
        events, latencies = self._events, self._latencies
        self._events = [sum(events[at : at + 2]) for at in range(0, len(events), 2)]
        self._latencies = latencies[::2]
        for whole, other in zip(self._latencies, latencies[1::2], strict=False):
            whole.add(other)


def latency_of(histogram: Histogram) -> Latency | None:
    """Return the percentiles of a histogram; None without a sample."""
    quantiles = [histogram.quantile(share) for share in (0.5, 0.9, 0.99, 0.999)]
    p50, p90, p99, p999 = (min(1000 * (each or 0.0), LONGEST_MS) for each in quantiles)
    return None if quantiles[0] is None else Latency(p50, p90, p99, p999)


def _wider(seen: Range | None, value: Decimal | None) -> Range | None:
    if value is None:
        return seen
    return Range(min(seen.least, value), max(seen.greatest, value)) if seen else Range(value, value)
