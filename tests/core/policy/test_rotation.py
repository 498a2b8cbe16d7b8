"""The rotation of connections, over days of simulated time."""

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.policy.rotation import (
    DAY_S,
    LEAST_AGE_S,
    OVERLAP_S,
    POSTPONE_S,
    ROTATION_SPACING_S,
    may_close,
    may_rotate,
    rotate_after_s,
)
from tests.support.events import repeatable

LIFE_S = DAY_S  # the exchange closes a connection after this time
MAX_AGE_S = 84_600
clocks = st.integers(0, 10 * 86_400).map(lambda n: 1_790_000_000 + n)
times_of_day = st.none() | st.integers(0, 86_399)
places = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n)))


@repeatable
@given(places, st.integers(60, 85_800), clocks, times_of_day)
def test_no_connection_lives_as_long_as_the_exchange_lets_it(
    place: tuple[int, int], max_age_s: int, now_s: int, time_of_day_s: int | None
) -> None:
    after_s = rotate_after_s(place, max_age_s, now_s, time_of_day_s)
    assert 0 < after_s <= max_age_s
    assert after_s + POSTPONE_S + OVERLAP_S < LIFE_S


@repeatable
@given(st.integers(2, 60), st.integers(60, 85_800), clocks)
def test_connections_opened_together_are_not_replaced_together(
    slots: int, max_age_s: int, now_s: int
) -> None:
    ages = [rotate_after_s((slot, slots), max_age_s, now_s, None) for slot in range(slots)]
    apart = min(abs(a - b) for a, b in combinations(ages, 2))
    assert apart >= min(ROTATION_SPACING_S, max_age_s / 4 / slots) - 1e-6
    assert min(ages) >= max_age_s * 3 / 4 - 1e-6


@repeatable
@given(places, clocks, st.integers(0, 86_399))
def test_with_a_time_of_day_nothing_is_replaced_far_from_it_after_the_first_day(
    place: tuple[int, int], now_s: int, time_of_day_s: int
) -> None:
    moments = [float(now_s)]
    for _ in range(12):
        opened_s = moments[-1] + 0.3  # the rate limiter, a backoff, the handshake
        moments.append(opened_s + rotate_after_s(place, MAX_AGE_S, opened_s, time_of_day_s))
    window_s = DAY_S - MAX_AGE_S + place[1] * ROTATION_SPACING_S
    for moment in [moment for moment in moments if moment > now_s + 2 * DAY_S]:
        off_s = (time_of_day_s + place[0] * ROTATION_SPACING_S - moment) % DAY_S
        assert min(off_s, DAY_S - off_s) <= window_s + LEAST_AGE_S
    assert all(b - a >= LEAST_AGE_S for a, b in pairwise(moments[1:]))


def test_a_rotation_waits_for_the_other_connector_but_not_for_ever() -> None:
    assert not may_rotate(-0.1, [])
    assert may_rotate(0, [])
    assert may_rotate(0, [1])
    assert not may_rotate(0, [2])
    assert not may_rotate(POSTPONE_S - 1, [0])
    assert may_rotate(POSTPONE_S, [0])


def test_the_old_connection_goes_when_the_new_one_has_brought_all_it_had_brought() -> None:
    assert may_close([], [], 0)
    assert not may_close(["a", "b"], ["a"], OVERLAP_S - 1)
    assert may_close(["a", "b"], ["b", "c", "a"], 0)
    assert may_close(["a"], [], OVERLAP_S)
