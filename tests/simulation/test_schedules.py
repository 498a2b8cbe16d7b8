"""The whole bridge on virtual time, under faults drawn from a seed; `make simulate` plays more."""

import time
from collections import Counter
from typing import Any
from unittest import mock

import pytest

from tests.simulation.faults import draw_changes, draw_takeovers
from tests.simulation.market import CONTIGUOUS
from tests.simulation.schedule import BrokenPromise, play

SCHEDULES = 50
# The streams whose ids do not show what is missing.
PAYLOADS = {"quote": "bookTicker", "candle": "kline_1s", "block_trade": "blockTrade"}


@pytest.mark.parametrize("first", range(0, 300, SCHEDULES))
def test_every_promise_is_kept_whatever_goes_wrong(first: int) -> None:
    broken = [problem for seed in range(first, first + SCHEDULES) if (problem := _played(seed))]
    assert not broken, "\n".join(broken)


def test_a_seed_is_the_same_schedule_each_time() -> None:
    for seed in range(10):
        assert play(seed).entries == play(seed).entries


def test_the_speed_of_the_machine_changes_no_schedule() -> None:
    seed, pace = 8, 50
    clocks: dict[str, Any] = {
        name: lambda clock=clock: pace * clock()
        for name, clock in (("monotonic", time.monotonic), ("perf_counter", time.perf_counter))
    }
    entries = play(seed).entries
    with mock.patch.multiple(time, **clocks):
        assert play(seed).entries == entries


def test_streams_that_come_and_go_cost_no_other_stream_an_event() -> None:
    """Each removal of a stream leads to one gap event at most, and to none of trades: they are
    fetched. A silent stream may have one when the group gives its shard to another bridge.
    """
    for seed in range(150):
        journal = play(seed, draw_changes)
        gone = Counter(name for read in journal.named("settings_read") for name in read["removed"])
        gaps = [gap for gap in journal.named("gap") if gap["cause"] not in {"stalled", "restart"}]
        told = Counter(f"{gap['symbol'].lower()}@{PAYLOADS[gap['message_type']]}" for gap in gaps)
        assert told <= gone, f"seed {seed}"


def test_takeovers_keep_every_promise_and_announce_no_trade() -> None:
    taken_over = 0
    for seed in range(100):
        journal = play(seed, draw_takeovers)
        gaps = [gap for gap in journal.named("gap") if gap["message_type"] in CONTIGUOUS]
        assert gaps == [], f"seed {seed}"
        taken_over += len(
            [each for each in journal.named("taking_over") if each["reason"] != "none"]
        )
    assert taken_over > 50


def _played(seed: int) -> str:
    """Return the problems of a schedule, empty if there are none."""
    try:
        play(seed)
    except BrokenPromise as error:
        return f"{error.problems}\nmake simulate SEED={seed} shows all that happened"
    return ""
