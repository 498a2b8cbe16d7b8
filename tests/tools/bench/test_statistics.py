"""The rules that turn samples into figures."""

from dataclasses import replace

import pytest

from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.statistics import (
    Delays,
    Step,
    back_to_normal_s,
    between,
    growth,
    highest_sustained,
    is_overrun,
    longest_lag_s,
    percentile,
    settled_growth,
    spread,
    step,
)
from tests.support.bench import carrying

OFFERED = [(0, 0), (4 * 10**6, 40_000)]
ALL = (0, 4 * 10**6)


def test_a_load_that_is_carried_whole_is_sustained() -> None:
    found = step(10_000, carrying([10_000] * 4, 10_000), OFFERED, ALL)
    assert found.is_sustained
    assert (found.offered_per_s, found.carried_per_s) == (10_000, 10_000)
    assert found.pending_growth_per_s == pytest.approx(0)
    assert found.cpu_us == pytest.approx(50)
    assert (found.cpu_share, found.resident_mib) == (0.5, 50)


def test_the_bytes_of_a_message_are_those_of_the_window() -> None:
    samples = carrying([10_000] * 4, 10_000, kafka_sent_bytes=640_000, redis_sent_bytes=12_000_000)
    found = step(10_000, samples, OFFERED, ALL)
    assert (found.kafka_bytes, found.redis_bytes) == (16, 300)


def test_a_backlog_that_grows_is_not_sustained_though_nothing_was_dropped() -> None:
    found = step(10_000, carrying([9_000] * 4, 10_000), OFFERED, ALL)
    assert found.pending_growth_per_s == pytest.approx(1_000)
    assert not found.is_sustained


def test_a_backlog_that_comes_and_goes_is_sustained() -> None:
    assert step(
        10_000, carrying([10_000, 9_900, 10_100, 10_000], 10_000), OFFERED, ALL
    ).is_sustained


@pytest.mark.parametrize("what", ["dropped", "reconnects"])
def test_one_drop_or_one_lost_connection_is_too_much(what: str) -> None:
    found = step(10_000, carrying([10_000] * 4, 10_000, **{what: 1}), OFFERED, ALL)
    assert not found.is_sustained


def test_a_bridge_that_carries_nothing_sustains_nothing() -> None:
    assert not step(1, carrying([0] * 4, 0), [(0, 0), (4 * 10**6, 0)], ALL).is_sustained


def test_what_one_sink_lacks_is_not_carried() -> None:
    samples = [replace(s, redis_published=s.kafka_published / 2) for s in carrying([100] * 4, 100)]
    assert step(100, samples, OFFERED, ALL).carried_per_s == 50


def test_a_window_counts_what_lies_in_it() -> None:
    found = step(5_000, carrying([0, 5_000, 5_000, 0], 5_000), OFFERED, (10**6, 3 * 10**6))
    assert found.carried_per_s == 5_000


def test_a_window_with_one_sample_takes_its_neighbours() -> None:
    found = step(5_000, carrying([5_000] * 4, 5_000), OFFERED, (1_900_000, 2_100_000))
    assert found.carried_per_s == 5_000


def test_one_sample_alone_is_no_window() -> None:
    with pytest.raises(BenchFailed, match="only one sample"):
        step(1, carrying([], 1), OFFERED, ALL)


def test_the_highest_sustained_step_comes_before_two_in_a_row_that_were_too_much() -> None:
    good = step(10_000, carrying([10_000] * 4, 10_000), OFFERED, ALL)
    bad = replace(good, dropped=1.0)

    def asked(one: Step, rate: float) -> Step:
        return replace(one, asked_per_s=rate)

    steps = [asked(good, 1), asked(good, 2), asked(bad, 3), asked(bad, 4), asked(good, 5)]
    assert highest_sustained(steps) == steps[1]
    assert highest_sustained([bad, bad, good]) is None
    assert highest_sustained([]) is None


def test_one_step_that_fails_among_others_that_do_not_is_a_neighbour() -> None:
    good = step(10_000, carrying([10_000] * 4, 10_000), OFFERED, ALL)
    bad = replace(good, pending_growth_per_s=5_000.0)
    assert highest_sustained([good, bad, good]) is good
    assert not is_overrun([good, bad])
    assert is_overrun([good, bad, bad])


def test_a_percentile_is_one_of_the_values() -> None:
    ordered = list(range(1, 1001))
    shares = (0.5, 0.99, 0.999, 1.0)
    assert [percentile(ordered, share) for share in shares] == [501, 991, 1000, 1000]
    assert percentile([7], 0.5) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_spread_reaches_from_the_least_to_the_greatest() -> None:
    assert spread([3.0, 1.0, 2.0]) == 2


def test_growth_is_told_by_the_middle_of_both_ends() -> None:
    assert growth([(0, 1), (1, 3), (2, 5)]) == 2
    assert growth([(float(x), 3.0 * x) for x in range(20)]) == pytest.approx(3)
    assert growth([(0, 1)]) == 0


def test_one_hiccup_is_no_growth() -> None:
    flat = [(float(x), 100.0) for x in range(9)]
    assert growth([*flat, (9.0, 50_000.0)]) == 0


@pytest.mark.parametrize(
    ("at", "value"), [(-5, 0), (0, 0), (5, 50), (10, 100), (15, 150), (99, 200)]
)
def test_between_two_points_a_line_is_straight(at: float, value: float) -> None:
    assert between([(0, 0), (10, 100), (20, 200)], at) == value


def test_delays_are_told_for_the_window_in_which_they_arrived() -> None:
    delays = Delays([1_000, 2_000, 3_000, 9_000], [500, 1_000, 2_900, 0])
    assert delays.within((2_000, 3_000)) == [100, 1_000]
    assert delays.percentiles((1_000, 3_000), 0.0, 1.0) == [0.1, 1.0]
    assert delays.percentiles((4_000, 5_000), 0.5) == []
    assert (delays.first_us, Delays([], []).first_us) == (1_000, None)


def test_delays_over_time_leave_out_where_nothing_came() -> None:
    delays = Delays([100_000, 900_000], [99_000, 898_000])
    assert delays.over_time((0, 10**6), 250_000, 0.99) == [(0.25, 1.0), (1.0, 2.0)]


def test_back_to_normal_is_the_last_time_above_it_before_a_second_of_calm() -> None:
    after = [80.0, 2.0, 9.0, 1.0, 1.0, 2.0, 1.0, 70.0, 1.0]
    points = [(1.0, 99.0), *((10.25 + 0.25 * n, value) for n, value in enumerate(after))]
    assert back_to_normal_s(points, 10, 5.0) == 0.75
    assert back_to_normal_s(points, 10, 100.0) == 0.0
    assert back_to_normal_s(points, 10, 0.5) == 2.25


def test_growth_counts_from_where_a_value_has_settled() -> None:
    warming = [(float(x), 30.0 + min(x, 20)) for x in range(100)]
    assert settled_growth(warming) == 0
    assert settled_growth([(float(x), float(x)) for x in range(100)]) == pytest.approx(50)
    assert settled_growth([(0.0, 1.0)]) == 0


def test_a_load_that_the_generator_did_not_offer_is_not_sustained() -> None:
    found = step(11_000, carrying([10_000] * 4, 10_000), OFFERED, ALL)
    assert found.carried_per_s == found.offered_per_s
    assert not found.is_sustained


def test_the_longest_lag_is_that_of_the_oldest_message_that_a_sink_lacks() -> None:
    samples = carrying([10_000, 5_000, 15_000, 10_000], 10_000)
    assert longest_lag_s(samples, OFFERED) == pytest.approx(0.5)


def test_what_has_been_carried_whole_has_no_lag() -> None:
    assert longest_lag_s(carrying([10_000] * 8, 10_000), OFFERED) == 0
