"""The size of the fault tests: full, or short enough for the check of every change."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
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
# There are twice as many quotes as trades. Quotes of all symbols alone would keep two cores busy.
QUOTED = SYMBOLS[:6]


@dataclass(frozen=True, slots=True)
class Size:
    """The size of one scenario: something is broken `times` times, for `seconds` each time.

    If the exchange follows a plan, its faults go on for `seconds` in total.
    """

    seconds: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Form:
    """The full or the short form of the fault tests.

    `trades_per_second` is the rate of all symbols together. `seed` decides what is left to chance.
    `calm_s` seconds pass before the first fault, and a random time in the range `between_s` between
    two faults of a kind. `is_for_the_record` says whether the results may be written into the
    documentation.
    """

    full: bool
    seed: int
    trades_per_second: float
    calm_s: float
    between_s: tuple[float, float]
    is_for_the_record: bool

    @classmethod
    def chosen(cls) -> Self:
        """Read FAULTS_FORM, FAULTS_SEED and, for a shared machine, FAULTS_RATE.

        Without a seed, draw one.
        """
        name = os.environ.get(FORM, "full")
        if name not in {"full", "short"}:
            raise pytest.UsageError(f"{FORM}={name}: give full or short")
        full = name == "full"
        seed = _number(SEED, int, random.SystemRandom().randrange(2**31))
        rate = _number(RATE, float, FULL_RATE if full else SHORT_RATE)
        if full:
            return cls(full, seed, rate, 5.0, (4.0, 8.0), is_for_the_record=rate >= FULL_RATE)
        return cls(full, seed, rate, 1.0, (1.0, 2.0), is_for_the_record=False)

    def with_load(self, load: float) -> Self:
        """Return the same form with this part of the rate."""
        return replace(self, trades_per_second=self.trades_per_second * load)

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
