"""How much of the exchange's request weight may still be used in this minute.

Binance counts weight per address and minute of its clock, and says in each answer how much is used,
by us and by everybody else there. Only a share of it is ours: others may need the rest.
"""

MINUTE_S = 60.0


class WeightBudget:
    """What answers report, and what is under way without an answer yet; `allowed` is what a minute
    has for everybody on our address, of which `share` is ours.
    """

    def __init__(self, weight_per_minute: int, share: float) -> None:
        self.allowed = weight_per_minute
        self.used = 0
        self._share = share
        self._minute = 0

    def reserve(self, weight: int, now_s: float) -> float:
        """Take `weight` for a request at `now_s` (seconds of the epoch), and return 0; or take
        nothing and return the seconds until the next minute begins.
        """
        self._turn(now_s)
        if self.used and self.used + weight > self.allowed * self._share:
            return MINUTE_S - now_s % MINUTE_S
        self.used += weight
        return 0.0

    def report(self, used: int, now_s: float) -> None:
        """What an answer says is used: others' requests count as well."""
        self._turn(now_s)
        self.used = max(self.used, used)

    def used_at(self, now_s: float) -> int:
        """What is used of the minute of `now_s`, as far as known."""
        self._turn(now_s)
        return self.used

    def _turn(self, now_s: float) -> None:
        minute = int(now_s // MINUTE_S)
        if minute != self._minute:
            self._minute, self.used = minute, 0
