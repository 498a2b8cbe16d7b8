"""The exchange of the demo: captures if given, else live Binance, else a simulated market.

The bridge reads each of them over a WebSocket.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bridge import settings
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.subscription import is_pattern
from bridge.core.model.stream import upper_symbol
from bridge.settings.urls import SecretUrl
from bridge.tools.demo.options import DEFAULT_SYMBOLS, DemoOptions, load_binance
from bridge.tools.demo.probe import PROBE_TIMEOUT_S, candidates, find_live
from bridge.tools.simulator import Capture, Market, Replay, SimulatedExchange, Source
from bridge.tools.simulator.fields import symbol_of

SEED = 1
# For all symbols together. With quotes that is about 300 messages a second.
TRADES_PER_SECOND = 75.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange to connect to: its settings, a title, and the reasons why it was chosen."""

    loaded: settings.Settings
    binance: settings.Binance
    title: str
    reasons: Sequence[str] = ()


@asynccontextmanager
async def open_exchange(
    options: DemoOptions, progress: Callable[[str], None]
) -> AsyncIterator[Exchange]:
    """Choose an exchange, and run it if it is simulated. `progress` is called before long steps.

    Raises SettingsError, and CaptureError if a capture cannot be read.
    """
    opening = _open_replay if options.captures else _open_market
    async with opening(options, progress) as exchange:
        yield exchange


@asynccontextmanager
async def _open_replay(
    options: DemoOptions, progress: Callable[[str], None]
) -> AsyncIterator[Exchange]:
    names = ", ".join(path.name for path in options.captures)
    progress(f"Reading {names}…")
    replay, streams = await asyncio.to_thread(_read, options.captures, options.symbols)
    loaded = load_binance(options, symbols=[], streams=[], extra_streams=streams)
    async with SimulatedExchange(replay) as exchange:
        title = f"recorded Binance: {names}, at real speed, in a loop"
        yield Exchange(loaded, _hosted(loaded.binance, exchange), title)


@asynccontextmanager
async def _open_market(
    options: DemoOptions, progress: Callable[[str], None]
) -> AsyncIterator[Exchange]:
    """Open live Binance, or a simulated market if Binance does not answer."""
    loaded = load_binance(options)
    progress(f"Looking for live Binance, at most {PROBE_TIMEOUT_S:g} s…")
    live, reasons = await find_live(candidates(loaded.binance))
    if live is not None:
        yield Exchange(loaded, live, f"live from {urlsplit(live.websocket_url).netloc}")
        return
    market = _invented(loaded.binance)
    async with SimulatedExchange(market) as exchange:
        title = "the simulator, because Binance cannot be reached"
        yield Exchange(loaded, _hosted(loaded.binance, exchange), title, reasons)


def _read(captures: Sequence[Path], symbols: Sequence[str]) -> tuple[Source, list[str]]:
    """Return the captures as a market, and their stream names, only of `symbols` if given."""
    read = [Capture.read(path) for path in captures]
    names = dict.fromkeys(frame.stream for capture in read for frame in capture.frames)
    wanted = set(map(upper_symbol, symbols))
    streams = [name for name in names if not wanted or symbol_of(name) in wanted]
    return Replay(read, loop=True), streams


def _invented(binance: settings.Binance) -> Source:
    named = [symbol for symbol in binance.symbols if not is_pattern(symbol)]
    streamed = [parse_stream(name).symbol for name in binance.extra_streams]
    symbols = tuple(dict.fromkeys(filter(None, (*named, *streamed)))) or DEFAULT_SYMBOLS
    return Market(
        symbols,
        seed=SEED,
        trades_per_second=TRADES_PER_SECOND / len(symbols),
    )


def _hosted(binance: settings.Binance, exchange: SimulatedExchange) -> settings.Binance:
    """Return the settings with the URLs of the simulated exchange, without a proxy."""
    return binance.model_copy(
        update={
            "websocket_url": exchange.websocket_url,
            "rest_url": exchange.rest_url,
            "proxy": SecretUrl("none"),
        }
    )
