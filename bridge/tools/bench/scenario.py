"""The input and the result of a scenario."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.tools.bench.brokers import Brokers
from bridge.tools.bench.profiles import Profile
from bridge.tools.bench.results import Curve
from bridge.tools.bench.statistics import Step
from bridge.tools.bench.workload import Load, Phase

# Messages per second. RATE is the rate of the latency targets.
RATE = 5_000
HIGH_RATE = 50_000
# The whole spot market.
MARKET_SYMBOLS = 1_500
MARKET_KINDS = ("trade", "bookTicker", "depth@100ms")


@dataclass(slots=True)
class Outcome:
    """The result of one run: figures by key, curves for the plots, and notes for the report."""

    figures: dict[str, float] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """The input of every scenario."""

    brokers: Brokers
    profile: Profile
    captures: tuple[str, ...]

    def load(self, *phases: tuple[int, float]) -> Load:
        """Return the load of the benchmark. Each phase is a rate and its duration in seconds."""
        return Load(phases=tuple(Phase(*phase) for phase in phases), captures=self.captures)

    def market(self, speed: float, *phases: Phase, symbols: int = MARKET_SYMBOLS) -> Load:
        """Return a load of the whole spot market, at a multiple of its recorded times."""
        return Load(phases, self.captures, symbols, MARKET_KINDS, speed=speed)

    def ladder(self) -> list[tuple[int, float]]:
        """Return phases with rising rates."""
        return [(rate, self.profile.step_s) for rate in self.profile.ladder]


def cost_figures(name: str, step: Step) -> dict[str, float]:
    """Return the figures of a load of `figures.COSTS`."""
    return {
        f"cost.{name}.rate": step.carried_per_s,
        f"cost.{name}.cores": step.cpu_share,
        f"cost.{name}.memory_mib": step.resident_mib,
        f"cost.{name}.kafka_bytes": step.kafka_bytes,
        f"cost.{name}.redis_bytes": step.redis_bytes,
    }


class Scenario(NamedTuple):
    """A named measurement. `needs` is a library that it cannot run without."""

    title: str
    run: Callable[[Bench], Awaitable[Outcome]]
    needs: str | None = None
