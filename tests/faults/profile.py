"""How large the fault tests are: all of it, or what fits into the check of every change."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

import pytest

N = TypeVar("N", int, float)

FORM = "FAULTS_FORM"
SEED = "FAULTS_SEED"
RATE = "FAULTS_RATE"
FULL_RATE, SHORT_RATE = 5000.0, 1000.0
SYMBOLS = [
    f"{base}USDT"
    for base in (
        "BTC ETH BNB SOL XRP ADA DOGE TRX DOT LINK LTC BCH UNI ATOM ETC XLM NEAR APT FIL ARB"
    ).split()
]
STREAMS = ["trade", "aggTrade"]
# Quotes are twice as many as trades; of all symbols they would keep two cores busy by themselves.
QUOTED = SYMBOLS[:6]


@dataclass(frozen=True, slots=True)
class Size:
    """Of one scenario: how often something is broken, and for how many seconds each time; of the
    faults of the exchange, which has a plan, for how many seconds they go on in all.
    """

    seconds: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Form:
    """`trades_per_second` of all symbols together; `seed` settles what is left to chance. `calm_s`
    pass before the first fault, and at random so many from `between_s` between two of a kind.
    """

    full: bool
    seed: int
    trades_per_second: float
    calm_s: float
    between_s: tuple[float, float]

    @classmethod
    def chosen(cls) -> Self:
        """Follow FAULTS_FORM, FAULTS_SEED and, on a machine that is shared, FAULTS_RATE; without a
        seed, draw one.
        """
        name = os.environ.get(FORM, "full")
        if name not in {"full", "short"}:
            raise pytest.UsageError(f"{FORM}={name}: say full or short")
        full = name == "full"
        seed = _number(SEED, int, random.SystemRandom().randrange(2**31))
        rate = _number(RATE, float, FULL_RATE if full else SHORT_RATE)
        if full:
            return cls(full, seed, rate, 5.0, (4.0, 8.0))
        return cls(full, seed, rate, 1.0, (1.0, 2.0))

    @property
    def is_for_the_record(self) -> bool:
        """Whether its results are what the documentation speaks of."""
        return self.full and self.trades_per_second >= FULL_RATE

    def __str__(self) -> str:
        name = "full" if self.full else "short"
        return f"faults: {name} form, {self.trades_per_second:g} trades/s, {SEED}={self.seed}"


def _number(name: str, kind: Callable[[str], N], default: N) -> N:
    """Return the number in an environment variable; the default if it is not set or empty."""
    text = os.environ.get(name)
    try:
        return kind(text) if text else default
    except ValueError:
        raise pytest.UsageError(f"{name}={text}: give a number") from None
