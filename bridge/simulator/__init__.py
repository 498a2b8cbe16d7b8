"""An exchange that speaks Binance's protocol, for tests, benchmarks, demos and load.

    captures ─▶ Replay ─┐                      ┌─▶ Audience ─▶ Subscribers   (WebSocket)
                        ├─▶ Source ─▶ Player ──┤
    a seed ───▶ Market ─┘                      └─▶ History ──▶ Rest          (REST, same port)

The left half is pure: it can be stepped at any speed and gives the same every time.
"""

from bridge.simulator.capture import Capture, CaptureWriter, Frame, read_capture
from bridge.simulator.errors import CaptureError, SimulatorError
from bridge.simulator.exchange import SimulatedExchange
from bridge.simulator.launch import SimulatorSettings, simulated_exchange
from bridge.simulator.market import Market
from bridge.simulator.replay import Replay
from bridge.simulator.source import Message, Source

__all__ = [
    "Capture",
    "CaptureError",
    "CaptureWriter",
    "Frame",
    "Market",
    "Message",
    "Replay",
    "SimulatedExchange",
    "SimulatorError",
    "SimulatorSettings",
    "Source",
    "read_capture",
    "simulated_exchange",
]
