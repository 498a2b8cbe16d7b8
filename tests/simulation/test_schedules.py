"""The whole bridge on virtual time, in a world that a seed breaks: `make simulate` plays more."""

import pytest

from tests.simulation.schedule import Broken, play

SCHEDULES = 50


@pytest.mark.parametrize("first", range(0, 300, SCHEDULES))
def test_every_promise_is_kept_whatever_goes_wrong(first: int) -> None:
    broken = [problem for seed in range(first, first + SCHEDULES) if (problem := _played(seed))]
    assert not broken, "\n".join(broken)


def test_a_seed_is_the_same_schedule_each_time() -> None:
    for seed in range(10):
        assert play(seed).entries == play(seed).entries


def _played(seed: int) -> str:
    """What went wrong."""
    try:
        play(seed)
    except Broken as error:
        return f"{error.problems}\nmake simulate SEED={seed} shows all that happened"
    return ""
