"""A fault plan at run time: the faults of handshakes, requests and new connections."""

from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from random import Random
from typing import NamedTuple

import msgspec

from bridge.tools.simulator import messages
from bridge.tools.simulator.connection_faults import ConnectionFaults
from bridge.tools.simulator.fault_plan import FaultPlan, matches
from bridge.tools.simulator.http_faults import (
    DropAtOpen,
    HandshakeFault,
    RefuseHandshake,
    RefuseRequest,
    RequestFault,
    SlowAnswer,
    SlowHandshake,
)
from bridge.tools.simulator.incidents import Incident, Incidents
from bridge.tools.simulator.rest import Answer
from bridge.tools.simulator.source import Message, Source

# Codes and texts of Binance; its failing servers answer with HTML.
_ERRORS = {
    418: (-1003, "Way too much request weight used; IP banned. Please use WebSocket Streams."),
    429: (-1003, "Too much request weight used. Please use WebSocket Streams for live updates."),
    451: (0, "Service unavailable from a restricted location according to 'b. Eligibility'."),
}


class Treatment(NamedTuple):
    """The treatment of a handshake or request: late by `delay_s`, refused with `refusal`, or both.

    `dropped`: the connection is accepted and then aborted. `number` is the handshake's number.
    """

    delay_s: float = 0.0
    refusal: Answer | None = None
    dropped: bool = False
    number: int = -1


class FaultEngine:
    """Applies a plan. `now_s` returns the seconds of the market since play began."""

    def __init__(self, plan: FaultPlan, source: Source, now_s: Callable[[], float]) -> None:
        self.plan = plan
        self.source = source
        self.now_s = now_s
        self.incidents = Incidents()
        self._requests = plan.random("requests")
        self._handshakes = count()

    def connection_faults(self, number: int) -> ConnectionFaults:
        """Return the faults of a connection that opens now."""
        return ConnectionFaults(self.plan, number, self.now_s(), self.incidents)

    def announcement(self) -> Message:
        return messages.server_shutdown(self.source.now_ms)

    def handshake(self) -> Treatment:
        """Return the treatment of the next WebSocket handshake."""
        number = next(self._handshakes)
        random = self.plan.random("handshake", number)
        treatment = Treatment(number=number)
        for fault in self.plan.faults:
            if (
                isinstance(fault, HandshakeFault)
                and self._falls(fault, random)
                and fault.connection in {None, number}
                and self.incidents.begin(fault)
            ):
                self.incidents.add(Incident(self.now_s(), fault, number))
                treatment = _treated(treatment, fault)
        return treatment

    def request(self, path: str) -> Treatment:
        """Return the treatment of a REST request; `path` may include a query."""
        endpoint = path.partition("?")[0]
        treatment = Treatment()
        for fault in self.plan.faults:
            if (
                isinstance(fault, RequestFault)
                and self._falls(fault, self._requests)
                and matches(endpoint, fault.paths)
                and self.incidents.begin(fault)
            ):
                self.incidents.add(Incident(self.now_s(), fault, subject=path))
                treatment = _treated(treatment, fault)
        return treatment

    def _falls(self, fault: HandshakeFault | RequestFault, random: Random) -> bool:
        """Return whether the fault happens now.

        The random number is drawn in any case, so that no fault depends on another.
        """
        return random.random() < fault.share and fault.covers(self.now_s())


def _treated(treatment: Treatment, fault: HandshakeFault | RequestFault) -> Treatment:
    match fault:
        case SlowHandshake() | SlowAnswer():
            return treatment._replace(delay_s=treatment.delay_s + fault.by_s)
        case RefuseHandshake() | RefuseRequest():
            return treatment._replace(refusal=_refusal(fault.status, fault.retry_after_s))
        case DropAtOpen():
            return treatment._replace(dropped=True)
        case _:
            raise NotImplementedError(fault)


def _refusal(status: int, retry_after_s: int | None) -> Answer:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if status in _ERRORS:
        code, text = _ERRORS[status]
        return Answer(status, msgspec.json.encode({"code": code, "msg": text}), headers)
    title = f"{status} {HTTPStatus(status).phrase}"
    html = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status, html.encode(), headers | {"Content-Type": "text/html"})
