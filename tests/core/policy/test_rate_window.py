from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.policy.rate_window import Window
from tests.support.events import repeatable

# Sixteenths of a second are exact in binary, so no rounding disturbs the comparison.
ticks = st.integers(0, 40).map(lambda n: n / 16)


def granted(limit: int, period_s: float, pauses: list[float]) -> list[float]:
    """Return when each request is granted; each request comes a pause after the previous one."""
    window = Window(limit, period_s)
    now_s, times = 0.0, []
    for pause in pauses:
        now_s += pause
        times.append(now_s + window.reserve(now_s))
    return times


@repeatable
@given(st.integers(1, 6), st.integers(1, 80).map(lambda n: n / 16), st.lists(ticks, max_size=60))
def test_no_rolling_period_holds_more_than_the_limit(
    limit: int, period_s: float, pauses: list[float]
) -> None:
    times = granted(limit, period_s, pauses)
    for first, beyond in zip(times, times[limit:], strict=False):
        assert Fraction(beyond) - Fraction(first) >= Fraction(period_s)


@repeatable
@given(st.integers(1, 6), st.lists(ticks, max_size=60))
def test_places_are_given_in_the_order_they_are_asked_for(limit: int, pauses: list[float]) -> None:
    times = granted(limit, 1.0, pauses)
    assert times == sorted(times)


@repeatable
@given(st.integers(1, 6), st.lists(ticks, max_size=60))
def test_nothing_waits_longer_than_the_limit_asks(limit: int, pauses: list[float]) -> None:
    times = granted(limit, 1.0, pauses)
    now_s = 0.0
    for index, pause in enumerate(pauses):
        now_s += pause
        earliest = times[index - limit] + 1.0 if index >= limit else now_s
        assert times[index] == max(now_s, earliest)


@repeatable
@given(st.lists(st.tuples(st.integers(1, 6), ticks), max_size=60))
def test_each_event_keeps_the_limit_of_its_moment(events: list[tuple[int, float]]) -> None:
    window, now_s, times = Window(1, 1.0), 0.0, []
    for limit, pause in events:
        window.limit = limit
        now_s += pause
        times.append(now_s + window.reserve(now_s))
        assert times == sorted(times)
        assert len(times) <= limit or times[-1] - times[-1 - limit] >= 1.0


def test_a_burst_of_the_limit_goes_at_once_and_the_next_waits_a_whole_period() -> None:
    window = Window(3, 1.0)
    assert [window.reserve(10.0) for _ in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_a_place_is_free_again_a_period_after_it_was_taken() -> None:
    window = Window(1, 5.0)
    window.reserve(100.0)
    assert window.reserve(103.0) == 2.0
    assert window.reserve(200.0) == 0.0
