"""Whether the machine is fit for a run."""

import pytest

from bridge.tools.bench import machine
from bridge.tools.bench.machine import BUSY_MAX, REFERENCE_US, SLOWER_MAX, Fitness, Times
from bridge.tools.bench.stages import Material


def watched(monkeypatch: pytest.MonkeyPatch, speeds_us: list[float], times: list[Times]) -> Fitness:
    left = iter(speeds_us)

    async def floor(_material: Material, _rounds: int) -> float:
        return next(left)

    monkeypatch.setattr(machine, "record_floor", floor)
    monkeypatch.setattr(machine, "cpu_times", iter(times).__next__)
    monkeypatch.setattr(machine, "IDLE_S", 0)
    return Fitness()


CALM = [Times(0, 0, 0), Times(200, 195, 0), Times(1200, 300, 10)]
FAST = [REFERENCE_US, REFERENCE_US]


async def test_a_calm_machine_of_the_usual_speed_is_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fitness = watched(monkeypatch, [*FAST], [*CALM])
    await fitness.begin()
    await fitness.end()
    assert (fitness.fault, fitness.speeds_us) == ("", FAST)


@pytest.mark.parametrize("speeds_us", [[1.5, 1.0], [1.0, 1.5]])
async def test_a_machine_that_is_slow_before_or_after_is_not(
    monkeypatch: pytest.MonkeyPatch, speeds_us: list[float]
) -> None:
    assert SLOWER_MAX < 1.5
    fitness = watched(monkeypatch, [each * REFERENCE_US for each in speeds_us], [*CALM])
    await fitness.begin()
    await fitness.end()
    assert fitness.fault == "the machine is 1.50 times as slow as the reference"


async def test_a_machine_that_others_use_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BUSY_MAX < 0.25
    times = [Times(0, 0, 0), Times(200, 150, 0), Times(1200, 300, 0)]
    fitness = watched(monkeypatch, [*FAST], times)
    await fitness.begin()
    await fitness.end()
    assert fitness.fault == "other processes use 25% of the cores"


async def test_a_machine_whose_host_takes_its_cores_away_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = [Times(0, 0, 0), Times(200, 200, 0), Times(1200, 300, 200)]
    fitness = watched(monkeypatch, [*FAST], times)
    await fitness.begin()
    await fitness.end()
    assert fitness.fault == "the host takes away 20% of the cores"


async def test_this_machine_has_a_speed_and_times() -> None:
    fitness = Fitness()
    await fitness.begin()
    await fitness.end()
    assert all(0 < speed_us < 100 for speed_us in fitness.speeds_us)
    times = machine.cpu_times()
    assert times.total >= times.idle + times.stolen
