"""What can go wrong on a connection, as data: each fault says when, how often and on what.

    Cut(every_s=3.0)                                 on each connection, at random
    StallConnection(at_s=20.0, for_s=5.0, deaf=True)        once, on all that are open then
    Malformed(share=0.01)                            beside every hundredth frame, at random

Seconds are the market's since play began, 0 before; a market that says nothing stands still: what
is due happens with its next message. `times` is how often a fault happens in all,
`streams` a pattern (`*@trade`). Connections are numbered from 0 by their handshakes, the refused
ones too.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from bridge.tools.simulator.errors import SimulatorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens from `at_s` on and before `until_s`."""

    at_s: float = 0.0
    until_s: float = math.inf

    def covers(self, now_s: float) -> bool:
        return self.at_s <= now_s < self.until_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFault(Fault):
    """Something on a connection: `every_s` on average, or on a `share` of its frames, or once.

    Each connection draws its own moments. Once is at `at_s`, on the connections open then; on
    `connection`, if one is given, and then as soon as it is open. Raises SimulatorError for a
    share that is none.
    """

    every_s: float | None = None
    share: float | None = None
    times: int | None = None
    connection: int | None = None
    streams: str = "*"

    def __post_init__(self) -> None:
        check_share(self.share or 0.0)
        if self.every_s is not None and (self.every_s <= 0 or self.share is not None):
            raise SimulatorError(
                f"every_s={self.every_s:g} must be above 0, and without share: give one of them"
            )


class Cut(ConnectionFault):
    """The TCP connection is aborted: the client sees 1006."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseWith(ConnectionFault):
    """The exchange closes, with this code."""

    code: int = 1001
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceShutdown(ConnectionFault):
    """`serverShutdown`, and `lead_s` later a close with 1001."""

    lead_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StallStream(ConnectionFault):
    """One stream, drawn from those of `streams`, is silent `for_s`; its frames are lost or late."""

    for_s: float
    lost: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StallConnection(ConnectionFault):
    """The connection is open and silent `for_s`; `deaf`: it does not even read, so no pongs."""

    for_s: float
    lost: bool = True
    deaf: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFault(ConnectionFault):
    """Something about the next `count` frames of `streams`, one after the other."""

    count: int = 1


class Repeat(FrameFault):
    """A frame is sent twice."""


class Reorder(FrameFault):
    """A frame is sent after the next one of its stream."""


class Skip(FrameFault):
    """A frame is left out."""


class Malformation(StrEnum):
    """How a frame is broken."""

    TRUNCATED = "truncated"  # JSON cut short
    WRONG_TYPE = "wrong type"  # its integers are strings
    BINARY = "binary"  # opcode 2
    OVERSIZED = "oversized"  # JSON of more than 1 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed(FrameFault):
    """A broken copy of a frame is sent before it, so that nothing else is lost."""

    kinds: tuple[Malformation, ...] = (
        Malformation.TRUNCATED,
        Malformation.WRONG_TYPE,
        Malformation.BINARY,
    )


def check_share(share: float) -> None:
    """Raise SimulatorError for what is no share."""
    if not 0 <= share <= 1:
        raise SimulatorError(f"{share:g} is no share; give one from 0 to 1")
