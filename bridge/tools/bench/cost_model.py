"""The cost of a load in cores: a fixed part, and the sum of the stages for each message.

The fixed part is that of the event loop and of its batches, which come up to a thousand times a
second whatever they hold. It is what the load of 1,000 messages per second takes in addition to its
stages.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

from bridge.tools.bench.figures import COSTS, MARKET, MESSAGE_STAGES
from bridge.tools.bench.results import Results

BASIS = next(iter(COSTS))


class CostModel(NamedTuple):
    """The fixed part in cores, and the microseconds of a message: of three symbols, and of the
    whole market. The latter is None if it was not measured.
    """

    fixed_cores: float
    message_us: float
    market_us: float | None

    @classmethod
    def of(cls, results: Results) -> Self | None:
        """Return the model, or None if a part of its basis was not measured."""
        message_us = _sum_us(results, "")
        basis = measured(results, BASIS)
        if message_us is None or basis is None:
            return None
        fixed_cores = basis.cores - basis.rate * message_us / 1e6
        return cls(fixed_cores, message_us, _sum_us(results, MARKET))

    def cores(self, name: str, rate: float) -> float | None:
        """Return the cores that a load of `COSTS` takes at a rate in messages per second."""
        message_us = self.market_us if name.startswith("market") else self.message_us
        return None if message_us is None else self.fixed_cores + rate * message_us / 1e6


class Cost(NamedTuple):
    """What a load has cost. The bytes are those of one message."""

    rate: float
    cores: float
    memory_mib: float
    kafka_bytes: float
    redis_bytes: float


def measured(results: Results, name: str) -> Cost | None:
    """Return the medians of a load of `COSTS`, or None if it was not measured."""
    found = _medians(results, [f"cost.{name}.{field}" for field in Cost._fields])
    return Cost(*found) if found else None


def _sum_us(results: Results, prefix: str) -> float | None:
    found = _medians(results, [f"stage.{prefix}{name}" for name in MESSAGE_STAGES])
    return sum(found) if found else None


def _medians(results: Results, keys: Sequence[str]) -> list[float]:
    """Return the medians of these figures; nothing if one of them was not measured."""
    found = [figure for key in keys if (figure := results.figure(key))]
    return [figure.median for figure in found] if len(found) == len(keys) else []
