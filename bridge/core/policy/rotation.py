"""Decide when a new connection replaces an old one, and when the old one may close."""

from collections.abc import Iterable

DAY_S = 86400.0
# The time between the rotations of two connections: well above the longest overlap.
ROTATION_SPACING_S = 60.0
# The longest time for which the old and the new connection are both open. A stream that the new
# connection has not brought by then is quiet.
OVERLAP_S = 30.0
# A younger connection is not replaced at the configured time of day.
LEAST_AGE_S = 600.0
# The longest time that a rotation waits for the other connector with the same streams.
POSTPONE_S = 300.0


def rotate_after_s(
    place: tuple[int, int], max_age_s: float, now_s: float, time_of_day_s: int | None
) -> float:
    """Return how long to keep a connection that opens at `now_s` (seconds since the epoch, UTC).

    It is replaced at its maximum age, and also at `time_of_day_s` if that is given: with the age
    alone the time of the rotation would drift. `place` is the slot of the connection and the number
    of slots. Rotations are spaced by slot, so that connections opened together are not replaced
    together.
    """
    slot, slots = place
    spacing_s = min(ROTATION_SPACING_S, max_age_s / 4 / slots)
    by_age_s = max_age_s - slot * spacing_s
    if time_of_day_s is None:
        return by_age_s
    by_clock_s = (time_of_day_s + slot * spacing_s - now_s) % DAY_S
    return min(by_age_s, by_clock_s if by_clock_s >= LEAST_AGE_S else DAY_S)


def may_rotate(overdue_s: float, others_open: Iterable[int]) -> bool:
    """Return whether to replace a connection now that is overdue by `overdue_s`.

    `others_open` is the number of open connections of each other connector with the same streams.
    While one of these connectors rotates or is disconnected, the rotation waits for at most
    POSTPONE_S.
    """
    if overdue_s < 0:
        return False
    return overdue_s >= POSTPONE_S or all(count == 1 for count in others_open)


def may_close(heard: Iterable[str], heard_on_new: Iterable[str], overlap_s: float) -> bool:
    """Return whether the old connection may close.

    It may if the new connection has brought all streams that the old one has brought, or after
    OVERLAP_S.
    """
    return overlap_s >= OVERLAP_S or set(heard) <= set(heard_on_new)
