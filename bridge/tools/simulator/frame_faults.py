"""Faults of single frames: duplicated, reordered, left out, preceded by a broken copy."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from bridge.tools.simulator.actions import Action, Binary
from bridge.tools.simulator.fault_plan import matches
from bridge.tools.simulator.faults import FrameFault, Malformation, Malformed, Reorder, Repeat
from bridge.tools.simulator.malformed import malformed


@dataclass(slots=True)
class _Armed:
    fault: FrameFault
    left: int


class FrameFaults:
    """Faults that wait for their frames, in the order in which they were armed.

    `record` is called with the fault, the stream and the frame when a fault has found its frame.
    """

    def __init__(self, random: Random, record: Callable[[FrameFault, str, bytes], None]) -> None:
        self._random = random
        self._record = record
        self._armed: list[_Armed] = []
        self._overtaken: dict[str, bytes] = {}

    def arm(self, fault: FrameFault) -> None:
        self._armed.append(_Armed(fault, fault.count))

    def apply(self, stream: str, text: bytes) -> list[Action]:
        """Return what to send in place of a frame; a frame that overtakes another has no fault."""
        overtaken = self._overtaken.pop(stream, None)
        if overtaken is not None:
            return [text, overtaken]
        fault = self._take(stream) if self._armed else None
        return [text] if fault is None else self._apply(fault, stream, text)

    def _take(self, stream: str) -> FrameFault | None:
        for armed in self._armed:
            if matches(stream, armed.fault.streams):
                armed.left -= 1
                if not armed.left:
                    self._armed.remove(armed)
                return armed.fault
        return None

    def _apply(self, fault: FrameFault, stream: str, text: bytes) -> list[Action]:
        if isinstance(fault, Malformed):
            return [self._broken(fault, stream, text), text]
        self._record(fault, stream, text)
        if isinstance(fault, Reorder):
            self._overtaken[stream] = text
        return [text, text] if isinstance(fault, Repeat) else []

    def _broken(self, fault: Malformed, stream: str, text: bytes) -> Action:
        kind = self._random.choice(fault.kinds)
        broken = malformed(text, kind, self._random)
        self._record(fault, stream, b"" if kind is Malformation.OVERSIZED else broken)
        return Binary(broken) if kind is Malformation.BINARY else broken
