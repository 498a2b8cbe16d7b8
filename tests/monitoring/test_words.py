"""The format of durations."""

import pytest

from bridge.monitoring.words import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (59.9, "59.9 s"), (120, "2 min"), (90_000, "1 d")],
)
def test_a_time_is_told_in_the_largest_unit_it_fills(seconds: float, text: str) -> None:
    assert duration(seconds) == text
