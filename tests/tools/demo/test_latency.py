from bridge.telemetry import Histogram
from bridge.tools.demo.latency import RECENT_S, FineHistogram, Recent


def test_a_quantile_is_at_most_five_hundredths_too_high() -> None:
    histogram = FineHistogram()
    for milliseconds in range(1, 101):
        histogram.observe(milliseconds / 1000)
    median = histogram.fine.quantile(0.5)
    assert median is not None
    assert 0.050 <= median <= 0.0525


def test_the_sinks_own_histogram_is_kept_as_it_was() -> None:
    histogram, plain = FineHistogram(), Histogram()
    for counted in (histogram, plain):
        counted.observe(0.003, 7)
    assert histogram.counts == plain.counts
    assert histogram.total == plain.total


def test_what_was_long_ago_no_longer_counts() -> None:
    histogram = FineHistogram()
    recent = Recent(histogram.fine, 0.0)
    histogram.observe(1.0)
    assert (recent.sample(1.0).p50_s or 0) >= 1.0
    histogram.observe(0.001)
    assert (recent.sample(2.0 + RECENT_S).p99_s or 1.0) < 0.0011


def test_a_quiet_time_has_no_latency() -> None:
    recent = Recent(FineHistogram().fine, 0.0)
    assert recent.sample(1.0).p50_s is None
