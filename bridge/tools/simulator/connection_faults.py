"""The faults of one connection under a plan, without a socket: frames in, actions out.

Decide, then act: `ConnectionFaults.pass_on` decides what to send and what else to do.
`FaultySubscriber` does it.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bridge.tools.simulator.actions import Action, Command
from bridge.tools.simulator.fault_plan import FaultPlan, matches
from bridge.tools.simulator.fault_timing import FaultShare, FaultTimes
from bridge.tools.simulator.faults import (
    AnnounceShutdown,
    CloseWith,
    ConnectionFault,
    Cut,
    FrameFault,
    StallConnection,
    StallStream,
)
from bridge.tools.simulator.frame_faults import FrameFaults
from bridge.tools.simulator.incidents import Incident, Incidents
from bridge.tools.simulator.session import Close

HELD_FRAMES = 200_000  # limit of a stall that delays its frames; above it the oldest are dropped

_ALL = "*"
_SHUT_DOWN = Close(1001, "Server shutdown")


@dataclass(slots=True)
class _Stall:
    until_s: float
    deaf: bool
    held: deque[tuple[str, bytes]]


class ConnectionFaults:
    """The faults of one connection.

    `now_s` is the time at which it opens, `number` the number of its handshake.
    """

    def __init__(self, plan: FaultPlan, number: int, now_s: float, incidents: Incidents) -> None:
        self._number = number
        self._now_s = now_s
        self._incidents = incidents
        self._random = plan.random("connection", number)
        self._frame_faults = FrameFaults(self._random, self._record)
        self._moments: list[FaultTimes] = []
        self._shares: list[FaultShare] = []
        self._stalls: dict[str, _Stall] = {}
        self._injected: deque[ConnectionFault] = deque()
        self._shut_down_s = math.inf
        self._over = False
        self._actions: list[Action] = []
        for index, fault in enumerate(plan.faults):
            if isinstance(fault, ConnectionFault) and fault.connection in {None, number}:
                random = plan.random("connection", number, index)
                if fault.share is None:
                    self._moments.append(FaultTimes(fault, random, now_s))
                else:
                    self._shares.append(FaultShare(fault, random, fault.share))

    def inject(self, fault: ConnectionFault) -> None:
        """Let a fault happen with the next frames, if it may affect this connection."""
        if fault.connection in {None, self._number}:
            self._injected.append(fault)

    def pass_on(
        self, frames: Iterable[tuple[str, bytes]], streams: Collection[str], now_s: float
    ) -> list[Action]:
        """Return the actions for these frames, each frame with its stream.

        `streams` are all streams of the connection.
        """
        self._now_s = now_s
        actions = self._actions = []
        self._keep_appointments(streams)
        shares = [share for share in self._shares if share.fault.covers(now_s)]
        for stream, text in frames:
            for share in shares:
                if share.falls_on(stream) and not self._over:
                    self._begin(share.fault, (stream,))
            if self._over:
                break
            if stall := self._stall_of(stream):
                stall.held.append((stream, text))
            else:
                actions += self._frame_faults.apply(stream, text)
        return actions

    def _keep_appointments(self, streams: Collection[str]) -> None:
        self._release()
        if self._now_s >= self._shut_down_s and not self._over:
            self._end(_SHUT_DOWN)
        for moments in self._moments:
            while not self._over and moments.due(self._now_s):
                self._begin(moments.fault, streams)
        while self._injected and not self._over:
            self._begin(self._injected.popleft(), streams)

    def _release(self) -> None:
        """Send the frames held by stalls that are over, unless another stall holds them."""
        over = [key for key, stall in self._stalls.items() if stall.until_s <= self._now_s]
        for stall in [self._stalls.pop(key) for key in over]:
            if stall.deaf:
                self._actions.append(Command.READ_AGAIN)
            for stream, text in stall.held:
                if other := self._stall_of(stream):
                    other.held.append((stream, text))
                else:
                    self._actions.append(text)

    def _stall_of(self, stream: str) -> _Stall | None:
        return (self._stalls.get(_ALL) or self._stalls.get(stream)) if self._stalls else None

    def _begin(self, fault: ConnectionFault, streams: Collection[str]) -> None:
        subject = self._subject(fault, streams)
        if subject is None or not self._incidents.begin(fault):
            return
        if isinstance(fault, FrameFault):
            self._frame_faults.arm(fault)
            return
        self._record(fault, subject)
        match fault:
            case Cut():
                self._end(Command.ABORT)
            case CloseWith():
                self._end(Close(fault.code, fault.reason))
            case AnnounceShutdown():
                self._actions.append(Command.ANNOUNCE_SHUTDOWN)
                self._shut_down_s = min(self._shut_down_s, self._now_s + fault.lead_s)
            case StallConnection() | StallStream():
                self._stall(subject, fault)

    def _subject(self, fault: ConnectionFault, streams: Collection[str]) -> str | None:
        """Return the stream that the fault affects, or `*`; None if there is nothing to stall."""
        if isinstance(fault, StallConnection):
            return None if _ALL in self._stalls else _ALL
        if not isinstance(fault, StallStream):
            return _ALL
        found = [stream for stream in streams if matches(stream, fault.streams)]
        found = [stream for stream in found if stream not in self._stalls]
        return self._random.choice(found) if found else None

    def _stall(self, subject: str, fault: StallConnection | StallStream) -> None:
        deaf = isinstance(fault, StallConnection) and fault.deaf
        held = deque[tuple[str, bytes]](maxlen=0 if fault.lost else HELD_FRAMES)
        self._stalls[subject] = _Stall(self._now_s + fault.for_s, deaf, held)
        if deaf:
            self._actions.append(Command.STOP_READING)

    def _end(self, action: Action) -> None:
        self._actions.append(action)
        self._over = True

    def _record(self, fault: ConnectionFault, subject: str, payload: bytes = b"") -> None:
        self._incidents.add(Incident(self._now_s, fault, self._number, subject, payload))
