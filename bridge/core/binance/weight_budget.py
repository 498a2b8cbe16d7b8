"""Track how much of the exchange's request weight may still be used in the current minute.

Binance counts weight per IP address and per minute of its clock. Each answer reports the weight
used so far by all clients on the address. We use only a share of it: other clients may need the
rest.
"""

MINUTE_S = 60.0


class WeightBudget:
    """The weight used in the current minute: as answers report it, plus unanswered requests.

    `allowed` is the weight per minute for all clients on our address. Our part of it is `share`.
    """

    def __init__(self, weight_per_minute: int, share: float) -> None:
        self.allowed = weight_per_minute
        self.used = 0
        self._share = share
        self._minute = 0

    def reserve(self, weight: int, now_s: float) -> float:
        """Reserve `weight` for a request at `now_s` (seconds since the epoch), and return 0.

        If too little weight is left, reserve nothing and return the seconds until the next minute.
        """
        self._turn(now_s)
        if self.used and self.used + weight > self.allowed * self._share:
            return MINUTE_S - now_s % MINUTE_S
        self.used += weight
        return 0.0

    def report(self, used: int, now_s: float) -> None:
        """Take over the used weight that an answer reports; it includes other clients' requests."""
        self._turn(now_s)
        self.used = max(self.used, used)

    def used_at(self, now_s: float) -> int:
        """Return the weight known to be used in the minute of `now_s`."""
        self._turn(now_s)
        return self.used

    def _turn(self, now_s: float) -> None:
        minute = int(now_s // MINUTE_S)
        if minute != self._minute:
            self._minute, self.used = minute, 0
