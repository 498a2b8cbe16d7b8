"""Recovery depends on the trades that a reader has not seen yet, for busy and quiet symbols."""

import math
from typing import NamedTuple

import pytest

from tests.faults.recovery import Seen, recovery_s

END_MS, UNTIL_MS = 10_000, 20_000


class Case(NamedTuple):
    name: str
    made_ms: list[int]
    seen: list[Seen]
    recovery_s: float | None


CASES = (
    Case("a trade made since was seen at once", [10_100], [Seen(10_150, 10_100)], 0.15),
    Case("what was made before tells nothing", [9_900], [Seen(10_001, 9_900)], None),
    Case("a trade made since was never seen", [9_900, 10_100], [Seen(10_001, 9_900)], math.inf),
    Case("nothing was seen at all", [10_100], [], math.inf),
    Case("the symbol traded too late to tell", [19_500], [], None),
    Case("the one trade of a quiet symbol was late", [10_100], [Seen(13_000, 10_100)], 3.0),
    Case(
        "a busy symbol was behind, and caught up",
        [10_100, 11_000, 13_500],
        [Seen(13_000, 10_100), Seen(13_600, 11_000)],
        3.6,
    ),
    Case(
        "a busy symbol stayed behind",
        [10_100, 11_000, 13_000],
        [Seen(13_000, 10_100), Seen(14_600, 11_000)],
        math.inf,
    ),
    Case("a reader that was current before the end", [9_000, 9_500], [Seen(9_600, 9_500)], None),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_symbol_has_recovered_when_all_it_lacks_is_recent(case: Case) -> None:
    found = recovery_s({"BTCUSDT": case.made_ms}, {"BTCUSDT": case.seen}, END_MS, UNTIL_MS)
    assert found == case.recovery_s


def test_the_last_symbol_counts_and_a_quiet_one_does_not() -> None:
    made_ms = {"BTCUSDT": [10_100], "ETHUSDT": [10_200], "BNBUSDT": [9_000]}
    seen = {"BTCUSDT": [Seen(10_150, 10_100)], "ETHUSDT": [Seen(10_900, 10_200)]}
    assert recovery_s(made_ms, seen, END_MS, UNTIL_MS) == 0.9
