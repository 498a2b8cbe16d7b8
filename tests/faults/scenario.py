"""A scenario of the fault tests, as data."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.tools.simulator import Fault
from tests.faults.environment import Environment
from tests.faults.profile import Size

FaultAction = Callable[[Environment, Size], Awaitable[None]]


def no_faults(_size: Size, _calm_s: float) -> tuple[Fault, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that breaks under a flow, and what may come of it beside the promises.

    plan: what the exchange does wrong, from the calm at the beginning on.
    fault_action: what is done to brokers and bridge meanwhile.
    shows: the event of the log that tells that it has bitten.
    expected: other events of the log at warning and above that it explains.
    drops: what a sink may drop, by sink and cause.
    interrupts: whether quotes may be interrupted, which gap events then announce.
    repairs_late: whether REST may take longer for a trade than the bridge's patience: a gap event
        then announces it, and another one that it has come.
    disk_mib: how large a disk there is for what has no room in memory; 0: none.
    """

    name: str
    title: str
    full: Size
    short: Size | None
    fault_action: FaultAction
    plan: Callable[[Size, float], tuple[Fault, ...]] = no_faults
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shows: str | None = None
    expected: frozenset[str] = frozenset()
    drops: frozenset[tuple[str, str]] = frozenset()
    interrupts: bool = False
    repairs_late: bool = False
    may_tear: bool = False
    recovers_in: Literal["kafka", "redis"] = "kafka"
    way: Literal["direct", "proxy", "cluster"] = "direct"
    memory_mib: int = 300
    disk_mib: int = 0

    @property
    def overflows(self) -> bool:
        """Whether trades may be given up, which gap events then announce and REST brings back."""
        return ("kafka", "outbox_full") in self.drops
