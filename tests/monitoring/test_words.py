"""The format of durations."""

import pytest

from bridge.monitoring.words import duration, printable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (59.9, "59.9 s"), (120, "2 min"), (90_000, "1 d")],
)
def test_a_time_is_told_in_the_largest_unit_it_fills(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("币安人生USDT", "币安人生USDT"),
        ("A\x1b[2J\nB\x00\x9b", r"A\x1b[2J\nB\x00\x9b"),
        ("right\u202eleft", r"right\u202eleft"),
    ],
)
def test_what_a_terminal_would_execute_is_shown_as_an_escape(text: str, expected: str) -> None:
    assert printable(text) == expected
