"""A simulated exchange that speaks Binance's protocol, for tests, benchmarks, demos and load.

    captures ─▶ Replay ─┐                      ┌─▶ Audience ─▶ Subscribers   (WebSocket)
                        ├─▶ Source ─▶ Player ──┤
    a seed ───▶ Market ─┘                      └─▶ History ──▶ Rest          (REST, same port)

A fault plan (`FaultPlan`, `faults`) says what goes wrong. `ConnectionFaults` applies it to each
subscriber, and `PartialHistory` to the history that Rest reads. `SimulatedExchange.happened` lists
the faults that have happened.

The left half of the drawing is pure: it can be stepped at any speed, and gives the same result
every time.
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
