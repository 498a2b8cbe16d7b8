"""Comparing two benchmarks: which figures moved by more than the noise."""

import pytest

from bridge.tools.bench.compare import caveats, compare
from bridge.tools.bench.results import Figure
from tests.support.bench import results

RATE, CPU = "websockets.rate", "websockets.cpu"


@pytest.mark.parametrize(
    ("key", "before", "now", "verdict"),
    [
        (RATE, [100.0, 101.0, 102.0], [120.0, 121.0, 122.0], "better"),
        (RATE, [100.0, 101.0, 102.0], [80.0, 81.0, 82.0], "worse"),
        (CPU, [9.0, 9.0, 9.1], [7.0, 7.1, 7.1], "better"),
        (CPU, [9.0, 9.0, 9.1], [11.0, 11.0, 11.2], "worse"),
        (RATE, [100.0, 101.0, 102.0], [80.0, 101.0, 122.0], "the same"),
        (RATE, [90.0, 100.0, 130.0], [120.0, 121.0, 122.0], "the same"),
    ],
    ids=[
        "more of what should be more",
        "less of what should be more",
        "less of what should be less",
        "more of what should be less",
        "as far apart as its own runs",
        "no farther than the earlier runs among themselves",
    ],
)
def test_a_figure_has_moved_if_its_medians_differ_by_more_than_the_runs(
    key: str, before: list[float], now: list[float], verdict: str
) -> None:
    (move,) = compare(results(Figure(key, before)), results(Figure(key, now)))
    assert move.verdict == verdict


def test_runs_that_agree_by_chance_do_not_make_every_difference_one() -> None:
    (move,) = compare(results(Figure(RATE, [100.0] * 3)), results(Figure(RATE, [102.0] * 3)))
    assert (move.verdict, move.noise) == ("the same", 3.0)


def test_a_single_run_is_taken_for_a_noisy_one() -> None:
    (move,) = compare(results(Figure(RATE, [100.0])), results(Figure(RATE, [110.0])))
    assert (move.verdict, move.noise) == ("the same", 15.0)


def test_what_only_one_of_them_has_is_said() -> None:
    moves = compare(results(Figure(RATE, [1.0])), results(Figure(CPU, [2.0])))
    assert [(move.key, move.verdict) for move in moves] == [(RATE, "not measured"), (CPU, "new")]


def test_another_machine_is_said() -> None:
    before, now = results(processor="old", profile="quick"), results(processor="new")
    assert caveats(before, now) == [
        "another machine: old before, new now",
        "another profile: quick before, usual now",
    ]
    assert caveats(now, now) == []
