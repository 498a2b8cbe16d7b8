"""The moments and frames at which a fault happens on one connection, drawn at random."""

import math
from random import Random

from bridge.tools.simulator.fault_plan import matches
from bridge.tools.simulator.faults import ConnectionFault


class FaultTimes:
    """The moments of a fault on one connection: a single one, or many at random."""

    __slots__ = ("_due_s", "_random", "fault")

    def __init__(self, fault: ConnectionFault, random: Random, now_s: float) -> None:
        self.fault = fault
        self._random = random
        if fault.every_s is not None:
            self._due_s = self._after(max(fault.at_s, now_s), fault.every_s)
        elif fault.connection is not None or now_s <= fault.at_s:
            self._due_s = max(fault.at_s, now_s)
        else:
            self._due_s = math.inf

    def due(self, now_s: float) -> bool:
        """Return whether another moment has come since the last call."""
        if now_s < self._due_s or self._due_s >= self.fault.until_s:
            return False
        every_s = self.fault.every_s
        self._due_s = math.inf if every_s is None else self._after(self._due_s, every_s)
        return True

    def _after(self, moment_s: float, every_s: float) -> float:
        return moment_s + self._random.expovariate(1 / every_s)


class FaultShare:
    """The frames of a fault: a random share of those that match. Counts down to the next one."""

    __slots__ = ("_left", "_random", "_share", "fault")

    def __init__(self, fault: ConnectionFault, random: Random, share: float) -> None:
        self.fault = fault
        self._random = random
        self._share = share
        self._left = self._gap()

    def falls_on(self, stream: str) -> bool:
        """Count a frame of this stream, and return whether the fault happens to it."""
        if not matches(stream, self.fault.streams):
            return False
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._gap()
        return True

    def _gap(self) -> float:
        """Return the number of frames to the next one: geometric."""
        if self._share in {0.0, 1.0}:
            return 1.0 if self._share else math.inf
        return 1.0 + math.log(1.0 - self._random.random()) // math.log(1.0 - self._share)
