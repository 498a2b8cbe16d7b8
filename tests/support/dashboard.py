"""A bridge at rest with its dashboard, for tests of what viewers see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import FeedState, MiniTicker, SymbolStatus, Trade
from bridge.core.model.stream import SPOT
from bridge.monitoring.dashboard import Dashboard
from bridge.monitoring.server import serve
from bridge.settings.model import Http
from bridge.telemetry import now_us
from tests.support.exchange import trade
from tests.support.running_server import Running

STREAMS = ("btcusdt@trade", "btcusdt@bookTicker", "!miniTicker@arr")


class Shown(Running):
    """A bridge at rest with its dashboard."""

    def __init__(self) -> None:
        super().__init__()
        self.dashboard = Dashboard(self.status)
        self.dashboard.watch(self.pipeline, self.kafka)
        self.pipeline.set_streams([parse_stream(name) for name in STREAMS], {})
        self.port = 0
        self.flow()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def served(self) -> AsyncIterator[asyncio.Task[None]]:
        """Serve, and yield the task of the dashboard."""
        task = asyncio.create_task(self.dashboard.run())
        async with serve(Http(port=self.port), self.status, self.dashboard) as self.port:
            yield task
        task.cancel()

    def receive(self, *ids: int) -> None:
        """Receive trades of BTCUSDT over the connection."""
        self.connection.on_frames([trade(identity).encode() for identity in ids], now_us())

    def trade(self, *ids: int, symbol: str = "BTCUSDT", price: str = "61837.63000000") -> None:
        now = now_us()
        self.pipeline.publish(
            [
                Trade(SPOT, symbol, now, now, "websocket", each, price, "0.5000", "buy")
                for each in ids
            ]
        )

    def day(self, symbol: str, price: str, opened: str) -> None:
        now = now_us()
        self.pipeline.publish(
            [
                MiniTicker(
                    SPOT, symbol, now, now, "websocket", price, opened, price, opened, "1", "2"
                )
            ]
        )

    def set_feed(self, **feeds: FeedState) -> None:
        """Set the states of symbols."""
        self.shard.symbols = {symbol: symbol_status(symbol, feed) for symbol, feed in feeds.items()}


def symbol_status(symbol: str, feed: FeedState) -> SymbolStatus:
    """Return a status of which only the state is known."""
    head = (SPOT, symbol, None, now_us(), "bridge", feed, 1)
    return SymbolStatus(*head, None, None, None, None, owner="me", standby=None)  # type: ignore[arg-type]
