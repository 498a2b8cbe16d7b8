"""Each reader of input from outside survives damaged input, and costs what its length costs.

`make fuzz` tries for minutes what the first test tries for a moment.
"""

import logging
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings

from tests.fuzz.heavy import HEAVY, Heavy
from tests.fuzz.inputs import damaged
from tests.fuzz.targets import targets

TARGETS = targets()
INPUTS = 100
SHORT, LONG = 2**13, 2**16
# Eight times as much input takes eight times as long. It takes 64 times as long if each part is
# compared with each other part. Below the least time the clock measures noise.
MAX_RATIO = 30
LEAST_S = 0.002
# A JSON value of three bytes becomes an object of 75. Some memory is used whatever the size is.
MAX_MEMORY_RATIO = 250
LEAST_BYTES = 2**21


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_input_leads_to_a_result_or_to_the_expected_error(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=INPUTS,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(target.corpus))
    def check(data: bytes) -> None:
        target.check(data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_a_sound_input_is_read(name: str) -> None:
    for data in TARGETS[name].corpus:
        TARGETS[name].check(data)


@pytest.mark.parametrize(
    ("name", "heavy"),
    [
        pytest.param(name, heavy, id=f"{name}: {label}")
        for name, of_target in HEAVY.items()
        for label, heavy in of_target.items()
    ],
)
def test_an_input_costs_in_proportion_to_its_length(name: str, heavy: Heavy) -> None:
    check, short, long = TARGETS[name].check, heavy(SHORT), heavy(LONG)
    assert _seconds(check, long) < MAX_RATIO * max(LEAST_S, _seconds(check, short))
    tracemalloc.start()
    try:
        check(long)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < LEAST_BYTES + MAX_MEMORY_RATIO * len(long)


def _seconds(check: Callable[[bytes], None], data: bytes) -> float:
    """Return the processor time of a check: the least of three."""
    times = []
    for _ in range(3):
        began_s = time.process_time()
        check(data)
        times.append(time.process_time() - began_s)
    return min(times)
