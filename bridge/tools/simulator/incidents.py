"""The faults that have happened so far, while a plan says what may happen."""

from collections import Counter, deque
from dataclasses import dataclass

from bridge.tools.simulator.faults import ConnectionFault, Fault
from bridge.tools.simulator.http_faults import HandshakeFault, RequestFault

INCIDENTS_KEPT = 1_000_000  # the oldest are dropped first


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault that happened.

    at_s: seconds of the market since play began.
    connection: the number of its handshake; None for REST.
    subject: the stream, `*` for a whole connection, or the path of a request.
    payload: the frame that was duplicated, reordered, skipped or sent malformed, as the client
        gets it or should have got it; empty for an oversized one.
    ids: the ids that REST withheld.
    """

    at_s: float
    fault: Fault
    connection: int | None = None
    subject: str = "*"
    payload: bytes = b""
    ids: tuple[int, ...] = ()


class Incidents:
    """All incidents, and how often each fault has happened."""

    def __init__(self) -> None:
        self._kept: deque[Incident] = deque(maxlen=INCIDENTS_KEPT)
        self._begun: Counter[int] = Counter()

    def happened(self) -> list[Incident]:
        """Return all incidents, in order."""
        return list(self._kept)

    def add(self, incident: Incident) -> None:
        self._kept.append(incident)

    def begin(self, fault: ConnectionFault | HandshakeFault | RequestFault) -> bool:
        """Count a fault that is about to happen; return False if it has happened often enough."""
        if fault.times is not None and self._begun[id(fault)] >= fault.times:
            return False
        self._begun[id(fault)] += 1
        return True
