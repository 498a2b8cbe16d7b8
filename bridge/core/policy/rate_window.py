"""A rate limit: at most a number of events in any period."""

from collections import deque


class Window:
    """A strict rolling window of at most `limit` events in `period_s` seconds.

    The limit may change. A lower one counts for the next event.

    A token bucket with the same burst would break the exchange's limits: it allows a full burst at
    the end of one window and another at the start of the next.
    """

    def __init__(self, limit: int, period_s: float) -> None:
        self.period_s = period_s
        self.limit = limit
        self._times: deque[float] = deque()

    def reserve(self, now_s: float) -> float:
        """Reserve the next free time; return the delay from `now_s` in seconds."""
        while self._times and self._times[0] + self.period_s <= now_s:
            self._times.popleft()
        full = len(self._times) >= self.limit
        at_s = max(now_s, self._times[-self.limit] + self.period_s) if full else now_s
        if self._times:
            at_s = max(at_s, self._times[-1])
        self._times.append(at_s)
        return at_s - now_s
