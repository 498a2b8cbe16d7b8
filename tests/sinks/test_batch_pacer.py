"""Delays between batches, on virtual time."""

import asyncio

import pytest

from bridge.sinks.batch_pacer import BatchPacer
from tests.support.virtual_time import VirtualTimeLoop


def rested_s(records: int, *, answered_after_s: float = 0.0, least_s: float = 0.001) -> float:
    """Return the time from one batch to the next, if the answer takes `answered_after_s`."""

    async def next_after() -> float:
        loop, pace = asyncio.get_running_loop(), BatchPacer(least_s, 0.0001, 0.005)
        began = loop.time()
        pace.sent(records)
        await asyncio.sleep(answered_after_s)
        await pace.rest()
        return loop.time() - began

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(next_after())


def test_the_first_batch_goes_at_once() -> None:
    async def first() -> float:
        await BatchPacer(1.0, 1.0, 1.0).rest()
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(first()) == 0


def test_a_small_batch_is_followed_after_the_least_rest() -> None:
    assert rested_s(5) == pytest.approx(0.001)


def test_without_a_least_rest_a_small_batch_is_followed_at_once() -> None:
    assert rested_s(5, least_s=0.0) == 0


def test_the_fuller_a_batch_was_the_later_the_next_one_goes() -> None:
    assert rested_s(20) == pytest.approx(0.002)
    assert rested_s(40) == pytest.approx(0.004)


def test_no_rest_is_longer_than_its_bound() -> None:
    assert rested_s(10_000) == pytest.approx(0.005)


def test_the_time_until_the_answer_counts_as_rest() -> None:
    assert rested_s(40, answered_after_s=0.003) == pytest.approx(0.004)
    assert rested_s(40, answered_after_s=0.009) == pytest.approx(0.009)
