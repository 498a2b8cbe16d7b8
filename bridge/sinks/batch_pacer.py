"""How soon a batch may follow the last one: at once on a quiet line, later the fuller that was.

A batch costs as much as a hundred of its records, here and at the server. Sent as soon as the last
one is answered, batches stay small until a core is full: of one machine with two cores, Kafka and
Redis on it, 41,000 messages a second were the most, and 70,000 with this.
"""

import asyncio

# uvloop counts milliseconds: a shorter rest would be none, or twice as long.
TIMER_S = 0.001


class BatchPacer:
    """Of one sink: a rest of `per_record_s` for each record of the last batch, from `least_s` to
    `most_s`, counted from when that was sent. For batches that took all there was: behind others
    more waits.
    """

    def __init__(self, least_s: float, per_record_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._per_record_s = per_record_s
        self._most_s = most_s
        self._next_s = 0.0

    def sent(self, records: int) -> None:
        """A batch of so many records goes out now."""
        rest_s = min(max(self._least_s, records * self._per_record_s), self._most_s)
        self._next_s = asyncio.get_running_loop().time() + rest_s

    async def rest(self) -> None:
        """Return when the next one may go."""
        rest_s = self._next_s - asyncio.get_running_loop().time()
        if rest_s >= TIMER_S:
            await asyncio.sleep(rest_s)
