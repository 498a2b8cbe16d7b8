"""From a few plain settings to an exchange, for the commands that start one."""

import time
from dataclasses import dataclass
from pathlib import Path

from bridge.simulator.capture import Capture
from bridge.simulator.exchange import SimulatedExchange
from bridge.simulator.market import Market
from bridge.simulator.replay import Replay
from bridge.simulator.source import Source

DEFAULT_SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """What `tickbridge simulate` can be told.

    With `captures` they are played, `loop` for ever; `symbols`, `seed` and `trades_per_second`
    (for each symbol, on average) are those of the market invented without. `speed`: a multiple of
    real time, inf for flat out. `port` 0 takes a free one.
    """

    captures: tuple[Path, ...] = ()
    loop: bool = True
    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    seed: int = 0
    trades_per_second: float = 5.0
    speed: float = 1.0
    host: str = "127.0.0.1"
    port: int = 0


def simulated_exchange(settings: SimulatorSettings) -> SimulatedExchange:
    """The exchange, not yet open: enter it, and it serves until it is left.

    Reads captures whole, so call it outside a running event loop's hot moments. Raises
    CaptureError for a file that cannot be read, SimulatorError for settings it cannot follow.
    """
    return SimulatedExchange(
        _source(settings), host=settings.host, port=settings.port, speed=settings.speed
    )


def _source(settings: SimulatorSettings) -> Source:
    if settings.captures:
        return Replay(map(Capture.read, settings.captures), loop=settings.loop)
    return Market(
        settings.symbols,
        seed=settings.seed,
        begin_ms=time.time_ns() // 1_000_000,
        trades_per_second=settings.trades_per_second,
    )
