"""An exchange that speaks Binance's protocol, for tests, benchmarks, demos and load.

    captures ─▶ Replay ─┐                      ┌─▶ Audience ─▶ Subscribers   (WebSocket)
                        ├─▶ Source ─▶ Player ──┤
    a seed ───▶ Market ─┘                      └─▶ History ──▶ Rest          (REST, same port)

A plan of faults stands between: `ConnectionFaults` at each subscriber, `PartialHistory` before
Rest. It says what goes wrong (`faults`, `FaultPlan`), and `SimulatedExchange.happened` what did.

The left half is pure: it can be stepped at any speed and gives the same every time.
"""

from bridge.tools.simulator.capture import Capture, CaptureWriter, Frame, read_capture
from bridge.tools.simulator.errors import CaptureError, SimulatorError
from bridge.tools.simulator.exchange import SimulatedExchange
from bridge.tools.simulator.fault_plan import FaultPlan
from bridge.tools.simulator.faults import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    Fault,
    Malformation,
    Malformed,
    Reorder,
    Repeat,
    Skip,
    StallConnection,
    StallStream,
)
from bridge.tools.simulator.history import History, PlayedTrade
from bridge.tools.simulator.http_faults import (
    DropAtOpen,
    RefuseHandshake,
    RefuseRequest,
    RestBehind,
    RestLacks,
    SlowAnswer,
    SlowHandshake,
)
from bridge.tools.simulator.incidents import Incident
from bridge.tools.simulator.market import Market
from bridge.tools.simulator.replay import Replay
from bridge.tools.simulator.source import Message, Source

__all__ = [
    "AnnounceShutdown",
    "Capture",
    "CaptureError",
    "CaptureWriter",
    "CloseWith",
    "Cut",
    "DropAtOpen",
    "Fault",
    "FaultPlan",
    "Frame",
    "History",
    "Incident",
    "Malformation",
    "Malformed",
    "Market",
    "Message",
    "PlayedTrade",
    "RefuseHandshake",
    "RefuseRequest",
    "Reorder",
    "Repeat",
    "Replay",
    "RestBehind",
    "RestLacks",
    "SimulatedExchange",
    "SimulatorError",
    "Skip",
    "SlowAnswer",
    "SlowHandshake",
    "Source",
    "StallConnection",
    "StallStream",
    "read_capture",
]
