"""The figures that every view shows."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.app.service import Service
from bridge.client import LatestPrice, LatestPrices
from bridge.tools.demo.latency import FineHistogram, Quantiles, Recent
from bridge.tools.demo.listener import Listener

RATE_WINDOW_S = 3.0
# Further symbols do not fit a terminal: they are counted, but not looked up.
MAX_SYMBOLS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """A symbol and its message rate; `latest` is None until Redis has a price."""

    symbol: str
    latest: LatestPrice | None
    messages_per_second: float


@dataclass(frozen=True, slots=True)
class Account:
    """The right side of `received = published + dropped + pending` for one sink."""

    sink: str
    published: int
    dropped: int
    pending: int

    @property
    def total(self) -> int:
        return self.published + self.dropped + self.pending


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one refresh.

    `latencies` cover the last seconds, by sink. `more_symbols` counts the symbols without a row.
    """

    elapsed_s: float
    received: int
    messages_per_second: float
    reconnects: int
    rows: Sequence[Row]
    more_symbols: int
    accounts: Sequence[Account]
    latencies: dict[str, Quantiles]


class Meter:
    """Collects the figures from a bridge and its consumers."""

    def __init__(self, service: Service, listener: Listener, prices: LatestPrices) -> None:
        self._began_s = time.monotonic()
        self._service = service
        self._listener = listener
        self._prices = prices
        self.kafka_latency = FineHistogram()
        self._latencies = {
            "kafka": Recent(self.kafka_latency.fine, self._began_s),
            "redis": Recent(listener.latency, self._began_s),
        }
        for sink in service.status.sinks:
            if sink.name == "kafka":
                sink.counts.latency = self.kafka_latency
        self._counts = deque([(self._began_s, 0, Counter[str]())])

    async def figures(self) -> Figures:
        """Return the current figures. Raises SinkUnavailable if Redis cannot be reached."""
        names = await self._symbols()
        shown = names[:MAX_SYMBOLS]
        latest = await self._prices.get_many(shown)
        now_s = time.monotonic()
        total, of_symbols = self._rates(now_s)
        status = self._service.status
        return Figures(
            elapsed_s=now_s - self._began_s,
            received=sum(status.counts.received.values()),
            messages_per_second=total,
            reconnects=status.counts.reconnects.total(),
            rows=[Row(name, latest.get(name), of_symbols.get(name, 0.0)) for name in shown],
            more_symbols=len(names) - len(shown),
            accounts=accounts(self._service),
            latencies={sink: recent.sample(now_s) for sink, recent in self._latencies.items()},
        )

    async def _symbols(self) -> list[str]:
        """Return the symbols of the streams in order, or else all symbols that have a price.

        Streams of the whole market name no symbol.
        """
        feed = self._service.status.feed
        streams = (
            [stream for connector in feed.connectors for stream in connector.streams]
            if feed
            else []
        )
        named = dict.fromkeys(stream.symbol for stream in streams if stream.symbol)
        return list(named) or await self._prices.symbols()

    def _rates(self, now_s: float) -> tuple[float, dict[str, float]]:
        """Return messages a second over RATE_WINDOW_S: received, and by symbol as seen in Redis."""
        received = sum(self._service.status.counts.received.values())
        self._counts.append((now_s, received, self._listener.messages.copy()))
        while self._counts[1][0] <= now_s - RATE_WINDOW_S:
            self._counts.popleft()
        then_s, before, of_symbols_before = self._counts[0]
        passed_s = now_s - then_s
        of_symbols = {
            symbol: (count - of_symbols_before[symbol]) / passed_s
            for symbol, count in self._listener.messages.items()
        }
        return (received - before) / passed_s, of_symbols


def accounts(service: Service) -> list[Account]:
    """Return the current accounts of both sinks."""
    return [
        Account(
            sink.name,
            sink.counts.published.total(),
            sink.counts.dropped.total(),
            sink.pending().total(),
        )
        for sink in service.status.sinks
    ]
