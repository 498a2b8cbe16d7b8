"""Delays a batch after the previous one: not at all when traffic is low, longer when it is high.

A batch costs as much as a hundred of its records, here and at the server. If each batch is sent as
soon as the previous one is answered, batches stay small until a core is saturated. On a machine
with two cores that also ran Kafka and Redis, the maximum was 41,000 messages a second. With this
delay it is 70,000.
"""

import asyncio

# uvloop's timers count milliseconds: a shorter rest would become 0 or twice as long.
TIMER_S = 0.001


class BatchPacer:
    """Computes the rest between the batches of one sink.

    The rest is `per_record_s` for each record of the last batch, at least `least_s` and at most
    `most_s`. It begins when that batch was sent. Report to `sent` only batches that took all
    waiting records. After any other batch, more records are waiting, and the next batch is sent
    without a rest.
    """

    def __init__(self, least_s: float, per_record_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._per_record_s = per_record_s
        self._most_s = most_s
        self._next_s = 0.0

    def sent(self, records: int) -> None:
        """Note that a batch with this number of records is sent now."""
        rest_s = min(max(self._least_s, records * self._per_record_s), self._most_s)
        self._next_s = asyncio.get_running_loop().time() + rest_s

    async def rest(self) -> None:
        """Wait until the next batch may be sent."""
        rest_s = self._next_s - asyncio.get_running_loop().time()
        if rest_s >= TIMER_S:
            await asyncio.sleep(rest_s)
