"""A scenario of the fault tests, as data."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bridge.tools.simulator import Fault
from tests.faults.profile import Size

if TYPE_CHECKING:
    from tests.faults.environment import Environment

# A machine that is busy with other work may stall Redis for longer than the default of a second.
_BUSY_MACHINE_S = 10

_TAKEN_OVER = frozenset({("kafka", "taken_over"), ("redis", "taken_over")})

FaultAction = Callable[["Environment", Size], Awaitable[None]]


def no_faults(_size: Size, _calm_s: float) -> tuple[Fault, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that breaks under load, and the consequences that are allowed.

    plan: the faults of the exchange, which start after the calm.
    fault_action: the action on brokers and bridge meanwhile.
    shows: the log event that proves that the fault took effect.
    expected: other log events at warning and above that the scenario explains.
    drops: the sink and the cause of each drop that is allowed.
    interrupts: whether quotes may be interrupted; gap events then announce it.
    max_age_s: how old a trade may be when it is written, unless a gap event has announced it.
    repairs_late: whether REST may take longer for a trade than `repair.timeout_s`: a gap event then
        announces the trade as open, and another one as filled.
    way: how the bridge reaches Kafka. A group's first bridge alone uses a proxy, and reaches the
        exchange through another one.
    bridges: how many there are at the start. Several of them are a group with a standby.
    shards: how many the group shares.
    replicas: how many brokers have the trades.
    load: the part of the usual rate. A small machine cannot carry all of it with three brokers.
    clock_behind_s: how much our clock is behind that of the exchange.
    clock_ahead_s: how much the clock of every second bridge is ahead of ours.
    disk_mib: the size of the disk for records that do not fit into memory; 0: no disk.
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
    max_age_s: float = math.inf
    repairs_late: bool = False
    may_tear: bool = False
    recovers_in: Literal["kafka", "redis"] = "kafka"
    way: Literal["direct", "proxy", "cluster"] = "direct"
    bridges: int = 1
    shards: int = 1
    replicas: int = 1
    load: float = 1.0
    memory_mib: int = 300
    disk_mib: int = 0
    clock_behind_s: int = 0
    clock_ahead_s: float = 0.0

    @property
    def is_cut_off(self) -> bool:
        """Return whether the first bridge is cut off from its exchange or Kafka."""
        return self.way == "proxy" and self.bridges > 1

    @property
    def bridge_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings of the bridge: a slow Redis is noticed only if it is the fault."""
        if self.shows == "redis_unavailable":
            return self.settings
        return {"redis": {"timeout_s": _BUSY_MACHINE_S}, **self.settings}

    @property
    def allowed_drops(self) -> frozenset[tuple[str, str]]:
        """Return the sink and the cause of each drop that is allowed. A former owner also drops
        what another bridge has published.
        """
        return self.drops | (_TAKEN_OVER if self.bridges > 1 else frozenset())

    @property
    def overflows(self) -> bool:
        """Return whether trades may be dropped; gap events announce them, REST brings them back.

        What a former owner drops, another bridge has published.
        """
        return self.bridges == 1 and ("kafka", "outbox_full") in self.drops
