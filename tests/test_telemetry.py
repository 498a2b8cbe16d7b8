import pytest

from bridge.telemetry import LATENCY_BOUNDS_S, FeedCounts, Histogram, SinkCounts


def test_bounds_rise_from_half_a_millisecond_to_a_minute() -> None:
    assert list(LATENCY_BOUNDS_S) == sorted(set(LATENCY_BOUNDS_S))
    assert (LATENCY_BOUNDS_S[0], LATENCY_BOUNDS_S[-1]) == (0.0005, 60.0)


@pytest.mark.parametrize(
    ("value", "bucket"), [(-1.0, 0), (0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (2.1, 2), (1e9, 2)]
)
def test_an_observation_counts_below_the_first_bound_it_does_not_pass(
    value: float, bucket: int
) -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    assert [index for index, count in enumerate(histogram.counts) if count] == [bucket]
    assert histogram.total == value


def test_several_observations_of_one_value_count_as_often() -> None:
    once, often = Histogram(), Histogram()
    once.observe(0.003, 4)
    for _ in range(4):
        often.observe(0.003)
    assert once.counts == often.counts
    assert once.total == pytest.approx(often.total)


def test_a_quantile_is_the_bound_above_that_share() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in (0.5, 0.6, 1.5, 3.0):
        histogram.observe(value)
    assert [histogram.quantile(share) for share in (0.0, 0.5, 0.51, 0.75, 0.99, 1.0)] == [
        *(1.0, 1.0, 2.0, 2.0, 4.0, 4.0)
    ]


def test_a_quantile_above_the_last_bound_is_infinite() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(2.0)
    assert histogram.quantile(0.5) == float("inf")


def test_nothing_observed_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


def test_counts_of_one_sink_are_not_anothers() -> None:
    one, other = SinkCounts(), SinkCounts()
    one.published["trade"] += 1
    one.dropped["trade", "outbox_full"] += 1
    one.latency.observe(1.0)
    assert other == SinkCounts(latency=other.latency)
    assert sum(other.latency.counts) == 0
    assert FeedCounts().received is not FeedCounts().received
