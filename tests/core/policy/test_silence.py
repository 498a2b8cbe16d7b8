"""A stream is judged by its own usual interval; the tests need no clock and no connection."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.core.policy.silence import (
    CONNECTION_CEILING_S,
    CONNECTION_FLOOR_S,
    REGULAR_INTERVALS,
    SILENT_INTERVALS,
    STREAM_CEILING_S,
    STREAM_FLOOR_S,
    STREAM_PAUSE_S,
    IntervalEstimate,
    Silence,
    SilenceDetector,
)
from tests.support.events import repeatable

intervals = st.floats(0.5, 600)


class Connection:
    """Streams that send data when the test says so; the detector checks them each second."""

    def __init__(self) -> None:
        self.watch = SilenceDetector(0.0)
        self.now_s = 0.0
        self.frames = 0
        self.marks: dict[str, int] = {}
        self.found: list[tuple[float, Silence]] = []

    def hear(self, names: Iterable[str]) -> None:
        for name in names:
            self.frames += 1
            self.marks[name] = self.frames

    def go_on(self, seconds: int, *names: str, every_s: int = 1) -> None:
        """Let these streams send data for `seconds`, once every `every_s`."""
        for _ in range(seconds):
            self.now_s += 1
            if self.now_s % every_s == 0:
                self.hear(names)
            if silence := self.watch.look(self.now_s, self.frames, self.marks):
                self.found.append((self.now_s, silence))

    def replace(self) -> None:
        self.frames = 0
        self.marks = {}
        self.watch.begin(self.now_s, self.watch._streams.copy())


@repeatable
@given(st.lists(intervals, min_size=1, max_size=60))
def test_an_estimate_stays_between_the_shortest_and_the_longest_interval(
    pauses: list[float],
) -> None:
    estimate, now_s = IntervalEstimate(0.0), 0.0
    for pause in [0.0, *pauses]:
        now_s += pause
        estimate.heard(now_s)
    assert min(pauses) - 1e-6 <= estimate.mean_s <= max(pauses) + 1e-6


@repeatable
@given(intervals, st.integers(0, 60))
def test_a_limit_is_so_many_intervals_between_floor_and_ceiling_once_regular(
    interval_s: float, count: int
) -> None:
    estimate = IntervalEstimate(0.0)
    for number in range(count + 1):
        estimate.heard(number * interval_s)
    limit_s = estimate.limit_s(STREAM_FLOOR_S, STREAM_CEILING_S)
    if count < REGULAR_INTERVALS:
        assert limit_s == float("inf")
    else:
        assert STREAM_FLOOR_S <= limit_s <= STREAM_CEILING_S
        assert limit_s >= min(SILENT_INTERVALS * interval_s * 0.999, STREAM_CEILING_S)


@repeatable
@given(st.lists(st.integers(1, 55), min_size=20, max_size=80))
def test_pauses_below_the_floor_are_never_a_silence(pauses: list[int]) -> None:
    line = Connection()
    for pause in pauses:
        line.go_on(pause, "other")
        line.hear(["rate_limited"])
    assert line.found == []


@repeatable
@given(st.integers(1, 25), st.integers(0, 3))
def test_a_stream_silent_alone_is_found_by_its_own_limit(every_s: int, more: int) -> None:
    line = Connection()
    line.go_on(every_s * (REGULAR_INTERVALS + 2 + more), "steady", "other", every_s=every_s)
    assume(not line.found)
    line.go_on(1000, "other")
    began_s = line.now_s - 1000
    (at_s, silence), *rest = line.found
    limit_s = max(STREAM_FLOOR_S, SILENT_INTERVALS * every_s)
    assert silence.streams == ["steady"]
    assert not silence.whole
    assert limit_s - 1 - every_s <= at_s - began_s <= limit_s + 2
    assert rest == []


def test_a_quiet_pair_may_be_silent_for_minutes() -> None:
    line = Connection()
    line.go_on(900, "other", "rate_limited", every_s=60)
    line.go_on(600, "other")
    assert line.found == []


def test_all_streams_silent_at_once_are_found_much_sooner() -> None:
    line = Connection()
    line.go_on(60, "one", "two")
    line.go_on(15)
    (at_s, silence), *rest = line.found
    assert silence == Silence(["one", "two"], at_s - 60, whole=True)
    assert CONNECTION_FLOOR_S <= at_s - 60 <= CONNECTION_FLOOR_S + 2
    assert not rest or rest[0][0] > at_s


@repeatable
@given(st.integers(5, 60), st.integers(1, 200))
def test_a_connection_whose_streams_all_speak_at_once_and_then_rest_is_not_silent(
    every_s: int, streams: int
) -> None:
    line = Connection()
    line.go_on(40 * every_s, *(f"s{n}" for n in range(streams)), every_s=every_s)
    line.go_on(min(10 * every_s, int(CONNECTION_CEILING_S) - 2))
    assert [silence for _, silence in line.found if silence.whole] == []


def test_connections_that_bring_nothing_get_ever_more_time() -> None:
    line = Connection()
    line.go_on(60, "one", "two", "three")
    waits = []
    for _ in range(8):
        began_s, found = line.now_s, len(line.found)
        line.replace()
        while len(line.found) == found:
            line.go_on(1)
        waits.append(line.now_s - began_s)
    assert waits == sorted(waits)
    assert waits[0] <= CONNECTION_FLOOR_S + 2
    assert waits[-1] <= CONNECTION_CEILING_S + 2
    assert waits[-1] >= CONNECTION_CEILING_S


def test_streams_that_fall_silent_one_after_another_cost_one_attempt_in_so_long() -> None:
    names = [f"s{number}" for number in range(20)]
    line = Connection()
    line.go_on(60, "other", *names)
    for number in range(1, 21):
        line.go_on(30, "other", *names[number:])
    line.go_on(3000, "other")
    moments = [at_s for at_s, _ in line.found]
    assert all(b - a >= STREAM_PAUSE_S for a, b in pairwise(moments))
    assert sorted(name for _, silence in line.found for name in silence.streams) == sorted(names)


def test_a_new_connection_has_all_the_time_again() -> None:
    line = Connection()
    line.go_on(60, "one")
    for _ in range(20):
        line.replace()
        line.go_on(9)
        line.hear(["one"])
        line.go_on(1)
    assert line.found == []


def test_what_was_never_regular_is_not_judged() -> None:
    line = Connection()
    line.go_on(9, "one")
    line.go_on(5000)
    assert line.found == []


def test_overdue_streams_are_named_until_they_are_heard_again() -> None:
    line = Connection()
    line.go_on(60, "one", "other")
    line.go_on(59, "other")
    assert line.watch.stalled(line.now_s) == []
    assert line.watch.stalled(line.now_s + 5) == ["one"]
    line.hear(["one"])
    line.go_on(1, "one", "other")
    assert line.watch.stalled(line.now_s + 5) == []


def test_a_stream_that_a_new_connection_does_not_have_is_not_missed() -> None:
    line = Connection()
    line.go_on(60, "one", "two")
    line.watch.begin(line.now_s, ["one"])
    line.frames, line.marks = 0, {}
    line.go_on(1000, "one")
    assert line.found == []
    assert line.watch.stalled(line.now_s) == []
