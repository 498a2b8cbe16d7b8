"""When a connection is replaced by a new one, and when the old one may go."""

from collections.abc import Iterable

DAY_S = 86400.0
# Between the rotations of two connections: well above the longest overlap.
ROTATION_SPACING_S = 60.0
# Longest time for which both the old and the new connection are kept. Streams that are not heard
# on the new one by then are quiet ones.
OVERLAP_S = 30.0
# A connection that has just been opened is not replaced for the time of day's sake.
LEAST_AGE_S = 600.0
# A rotation waits for that of the other connector with the same streams, but not longer than this.
POSTPONE_S = 300.0


def rotate_after_s(
    place: tuple[int, int], max_age_s: float, now_s: float, time_of_day_s: int | None
) -> float:
    """How long a connection is kept that opens at `now_s` (since the epoch, UTC).

    It is replaced at its age and, where one is given, at the time of day too: the age alone would
    wander. `place` is its slot, and how many there are: they are spaced, so that connections opened
    together are not replaced together.
    """
    slot, slots = place
    spacing_s = min(ROTATION_SPACING_S, max_age_s / 4 / slots)
    by_age_s = max_age_s - slot * spacing_s
    if time_of_day_s is None:
        return by_age_s
    by_clock_s = (time_of_day_s + slot * spacing_s - now_s) % DAY_S
    return min(by_age_s, by_clock_s if by_clock_s >= LEAST_AGE_S else DAY_S)


def may_rotate(overdue_s: float, others_open: Iterable[int]) -> bool:
    """Whether a connection past its time by `overdue_s` is to be replaced now.

    `others_open`: of each other connector with the same streams, how many connections it has open.
    Not while one of them is being replaced or away, unless that takes too long.
    """
    if overdue_s < 0:
        return False
    return overdue_s >= POSTPONE_S or all(count == 1 for count in others_open)


def may_close(heard: Iterable[str], heard_on_new: Iterable[str], overlap_s: float) -> bool:
    """Whether the old connection may go: what it has brought, the new one has brought too."""
    return overlap_s >= OVERLAP_S or set(heard) <= set(heard_on_new)
