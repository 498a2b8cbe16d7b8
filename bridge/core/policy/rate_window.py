"""How soon the next one may go, under a limit of so many in so long."""

from collections import deque


class Window:
    """A strict rolling window. A token bucket with the same burst breaks the exchange's limits:
    it lets a full burst out at the end of one window and another at the start of the next.
    """

    def __init__(self, limit: int, period_s: float) -> None:
        self.period_s = period_s
        self._times: deque[float] = deque(maxlen=limit)

    def reserve(self, now_s: float) -> float:
        """Take the next place; returns how many seconds from `now_s` it is."""
        full = len(self._times) == self._times.maxlen
        at_s = max(now_s, self._times[0] + self.period_s) if full else now_s
        self._times.append(at_s)
        return at_s - now_s
