"""What a scenario is given and what it gives back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.tools.bench.brokers import Brokers
from bridge.tools.bench.profiles import Profile
from bridge.tools.bench.results import Curve
from bridge.tools.bench.workload import Load, Phase

# The rate of the latency targets, messages a second.
RATE = 5_000
HIGH_RATE = 50_000


@dataclass(slots=True)
class Outcome:
    """What one run of a scenario has given: figures by key, lines of plots, remarks."""

    figures: dict[str, float] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every scenario gets."""

    brokers: Brokers
    profile: Profile
    captures: tuple[str, ...]

    def load(self, *phases: tuple[int, float]) -> Load:
        """The workload of the benchmark, at these rates for so many seconds each."""
        return Load(phases=tuple(Phase(*phase) for phase in phases), captures=self.captures)

    def ladder(self) -> list[tuple[int, float]]:
        """Rates that rise."""
        return [(rate, self.profile.step_s) for rate in self.profile.ladder]


class Scenario(NamedTuple):
    """`needs` is a library without which it cannot be measured."""

    title: str
    run: Callable[[Bench], Awaitable[Outcome]]
    needs: str | None = None
