"""Compare two benchmarks: which figures have moved by more than the noise."""

from dataclasses import dataclass
from typing import Literal

from bridge.tools.bench.figures import FIGURES
from bridge.tools.bench.results import Figure, Results

Verdict = Literal["better", "worse", "the same", "new", "not measured"]

# Runs of one afternoon vary less than runs of two days. A smaller difference means nothing.
LEAST_NOISE_SHARE = 0.03
# A single run has no spread. This share of its value is assumed.
SINGLE_RUN_NOISE_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Move:
    """One figure before and now. A difference of up to `noise` means nothing."""

    key: str
    before: float | None
    now: float | None
    noise: float
    verdict: Verdict


def noise(before: Figure, now: Figure) -> float:
    """Return the greater spread of both, or a share of the value if that is more."""
    single = min(len(before.runs), len(now.runs)) == 1
    share = SINGLE_RUN_NOISE_SHARE if single else LEAST_NOISE_SHARE
    return max(before.spread, now.spread, share * abs(before.median))


def compare(before: Results, now: Results) -> list[Move]:
    """Return the move of every figure in either benchmark, in the order of the table."""
    moves = (_move(key, before.figure(key), now.figure(key)) for key in FIGURES)
    return [move for move in moves if move is not None]


def _move(key: str, before: Figure | None, now: Figure | None) -> Move | None:
    if before is None or now is None:
        if now is not None:
            return Move(key, None, now.median, 0.0, "new")
        return None if before is None else Move(key, before.median, None, 0.0, "not measured")
    bound = noise(before, now)
    return Move(key, before.median, now.median, bound, _verdict(key, before, now, bound))


def _verdict(key: str, before: Figure, now: Figure, bound: float) -> Verdict:
    difference = now.median - before.median
    if abs(difference) <= bound:
        return "the same"
    return "better" if (difference > 0) == (FIGURES[key].better == "more") else "worse"


def caveats(before: Results, now: Results) -> list[str]:
    """Return the differences that make the comparison unreliable."""
    found = []
    for what, then, today in (
        ("machine", before.machine.processor, now.machine.processor),
        ("number of cores", f"{before.machine.cores}", f"{now.machine.cores}"),
        ("workload", before.workload, now.workload),
        ("profile", before.profile, now.profile),
    ):
        if then != today:
            found.append(f"another {what}: {then} before, {today} now")
    return found
