"""What has gone wrong so far: a plan tells what may, this what did."""

from collections import Counter, deque
from dataclasses import dataclass

from bridge.tools.simulator.faults import ConnectionFault, Fault
from bridge.tools.simulator.http_faults import HandshakeFault, RequestFault

INCIDENTS_KEPT = 1_000_000  # the oldest go first


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault that happened.

    at_s: seconds of the market since play began.
    connection: whose, by the number of its handshake; None for REST.
    subject: the stream, `*` for all of a connection, or the path of a request.
    payload: the frame that was repeated, overtaken, skipped or sent malformed, as the client has
        or should have had it; empty for what is oversized.
    ids: those that REST held back.
    """

    at_s: float
    fault: Fault
    connection: int | None = None
    subject: str = "*"
    payload: bytes = b""
    ids: tuple[int, ...] = ()


class Incidents:
    """A record of them, and how often each fault may still happen."""

    def __init__(self) -> None:
        self._kept: deque[Incident] = deque(maxlen=INCIDENTS_KEPT)
        self._begun: Counter[int] = Counter()

    def happened(self) -> list[Incident]:
        """All of them, in order."""
        return list(self._kept)

    def add(self, incident: Incident) -> None:
        self._kept.append(incident)

    def begin(self, fault: ConnectionFault | HandshakeFault | RequestFault) -> bool:
        """Count a fault that is about to happen; False when it has happened often enough."""
        if fault.times is not None and self._begun[id(fault)] >= fault.times:
            return False
        self._begun[id(fault)] += 1
        return True
