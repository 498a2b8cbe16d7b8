"""Fault plans: put together by hand, or with every kind of fault from a seed."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from random import Random
from typing import Self
from zlib import crc32

from bridge.tools.simulator.faults import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    Fault,
    Malformed,
    Reorder,
    Repeat,
    Skip,
    StallConnection,
    StallStream,
)
from bridge.tools.simulator.http_faults import (
    DropAtOpen,
    RefuseHandshake,
    RefuseRequest,
    RestBehind,
    RestLacks,
    SlowAnswer,
    SlowHandshake,
)

matches = lru_cache(maxsize=1 << 16)(fnmatchcase)
"""Return whether a stream or path (first argument) matches a pattern (second argument)."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The faults of an exchange. `seed` decides everything that they leave to chance."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    @classmethod
    def seeded(cls, seed: int, *, every_s: float = 5.0) -> Self:
        """Return a plan with every kind of fault from which a client can recover without loss.

        `every_s` is the average time between two faults of a connection, in seconds of the market.
        Not included are 418 and 451, which are not accidents, and ids that REST does not have.
        """
        random = Random(f"{seed}:plan")  # noqa: S311 (a seed is the point)
        return cls(
            (*_connection_faults(random, every_s), *_frame_faults(random), *_http_faults()), seed
        )

    def random(self, *names: object) -> Random:
        """Return a random generator that depends only on the seed and these names."""
        return Random(":".join(map(str, (self.seed, *names))))  # noqa: S311

    def lacks(self, stream: str, number: int) -> bool:
        """Return whether REST ever withholds this id of `btcusdt@trade` or `btcusdt@aggTrade`."""
        return any(
            self.denies(fault, stream, number)
            for fault in self.faults
            if isinstance(fault, RestLacks)
        )

    def denies(self, fault: RestLacks, stream: str, number: int) -> bool:
        if not matches(stream, fault.streams):
            return False
        drawn = crc32(f"{self.seed}:{stream}:{number}".encode()) / 2**32
        return number in fault.ids or drawn < fault.share


def _connection_faults(random: Random, every_s: float) -> tuple[Fault, ...]:
    def every(share: float) -> float:
        return every_s / share * random.uniform(0.8, 1.25)

    def stall_s() -> float:
        return every_s * random.uniform(0.2, 0.8)

    return (
        Cut(every_s=every(0.3)),
        CloseWith(every_s=every(0.1), code=1001),
        CloseWith(every_s=every(0.1), code=1008, reason="Too many requests"),
        AnnounceShutdown(every_s=every(0.1), lead_s=random.uniform(0.2, 2.0)),
        StallStream(every_s=every(0.1), for_s=stall_s(), lost=True),
        StallStream(every_s=every(0.1), for_s=stall_s(), lost=False),
        StallConnection(every_s=every(0.1), for_s=stall_s(), lost=True),
        StallConnection(every_s=every(0.1), for_s=stall_s(), lost=False, deaf=True),
    )


def _frame_faults(random: Random) -> tuple[Fault, ...]:
    def share() -> float:
        return random.uniform(0.0005, 0.002)

    return (
        Repeat(share=share()),
        Reorder(share=share()),
        Skip(share=share(), count=random.randint(1, 5)),
        Malformed(share=0.01),
    )


def _http_faults() -> tuple[Fault, ...]:
    return (
        SlowHandshake(share=0.2, by_s=0.3),
        DropAtOpen(share=0.1),
        RefuseHandshake(share=0.05, status=503),
        RefuseHandshake(share=0.02, status=429, retry_after_s=1),
        SlowAnswer(share=0.1, by_s=0.2),
        RefuseRequest(share=0.05, status=502),
        RefuseRequest(share=0.02, status=429, retry_after_s=1),
        RestBehind(by_ms=200),
    )
