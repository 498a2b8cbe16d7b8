"""Faults of a connection, as data: each says when, how often and to what it happens.

    Cut(every_s=3.0)                                 on each connection, at random
    StallConnection(at_s=20.0, for_s=5.0, deaf=True)        once, on all open connections
    Malformed(share=0.01)                            on one frame in a hundred, at random

Times are seconds of the market since play began, 0 before. A market that sends no message stands
still: a fault that is due happens with its next message. `times` limits how often a fault happens
in total. `streams` is a pattern (`*@trade`). Connections are numbered from 0 by their handshakes,
including the refused ones.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from bridge.tools.simulator.errors import SimulatorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that happens from `at_s` on and before `until_s`."""

    at_s: float = 0.0
    until_s: float = math.inf

    def covers(self, now_s: float) -> bool:
        return self.at_s <= now_s < self.until_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFault(Fault):
    """A fault of a connection: every `every_s` on average, on a `share` of its frames, or once.

    Each connection draws its own moments. A fault that happens once is due at `at_s`, on the
    connections open then; with `connection`, on that one only, as soon as it is open. Raises
    SimulatorError if `share` is not from 0 to 1, `every_s` is not above 0, or both are given.
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
                f"every_s={self.every_s:g} must be above 0, and without share; give one of them"
            )


class Cut(ConnectionFault):
    """Aborts the TCP connection; the client sees 1006."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseWith(ConnectionFault):
    """Closes the connection with this code and reason."""

    code: int = 1001
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceShutdown(ConnectionFault):
    """Sends `serverShutdown`, and closes with 1001 after `lead_s`."""

    lead_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StallStream(ConnectionFault):
    """Silences one stream, drawn from those that match `streams`, for `for_s`.

    Its frames are lost, or late if not `lost`.
    """

    for_s: float
    lost: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StallConnection(ConnectionFault):
    """Keeps the connection open and silent for `for_s`.

    If `deaf`, it does not read either, so it sends no pongs.
    """

    for_s: float
    lost: bool = True
    deaf: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFault(ConnectionFault):
    """A fault of the next `count` frames of `streams`, one after the other."""

    count: int = 1


class Repeat(FrameFault):
    """Sends a frame twice."""


class Reorder(FrameFault):
    """Sends a frame after the next one of its stream."""


class Skip(FrameFault):
    """Leaves a frame out."""


class Malformation(StrEnum):
    """The way in which a frame is broken."""

    TRUNCATED = "truncated"  # JSON cut short
    WRONG_TYPE = "wrong type"  # its integers are strings
    BINARY = "binary"  # opcode 2
    OVERSIZED = "oversized"  # JSON of more than 1 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed(FrameFault):
    """Sends a broken copy of a frame before it, so that nothing is lost."""

    kinds: tuple[Malformation, ...] = (
        Malformation.TRUNCATED,
        Malformation.WRONG_TYPE,
        Malformation.BINARY,
    )


def check_share(share: float) -> None:
    """Raise SimulatorError if `share` is not from 0 to 1."""
    if not 0 <= share <= 1:
        raise SimulatorError(f"share={share:g} is out of range; give one from 0 to 1")
