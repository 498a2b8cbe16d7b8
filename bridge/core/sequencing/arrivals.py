"""Count the events of one connector, and measure its delay to the other connector.

A new event costs nothing here. A duplicate costs a look-up and a comparison. The delay is measured
by samples: when a duplicate of the sampled event arrives, the newest event becomes the next sample.
"""

from typing import NamedTuple

from bridge.core.model.events import Event
from bridge.core.sequencing.rules import Sequencer


class _Sample(NamedTuple):
    """The id or time of an event, and its arrival; `received` is None if it was fetched."""

    mark: int
    received: int | None


class Arrivals:
    """The counters of one connector: all `events`, and the `duplicates` among them.

    `behind` is the number of sampled duplicates, and `behind_us` the sum of their delays. Samples
    are taken only while `compares` is true: while the connector has one connection, and another
    connector has the same streams.
    """

    __slots__ = ("_samples", "behind", "behind_us", "compares", "duplicates", "events")

    def __init__(self) -> None:
        self.events = 0
        self.duplicates = 0
        self.behind = 0
        self.behind_us = 0
        self.compares = False
        self._samples: dict[Sequencer, _Sample] = {}

    def add(self, other: "Arrivals") -> None:
        """Add the counts of another connector, for example of a stopped one."""
        self.events += other.events
        self.duplicates += other.duplicates
        self.behind += other.behind
        self.behind_us += other.behind_us

    def count_duplicate(self, sequencer: Sequencer, event: Event) -> None:
        """Count an event that the sequencer has dropped as a duplicate."""
        self.duplicates += 1
        if not self.compares or sequencer.last_mark is None:
            return
        newest = _Sample(sequencer.last_mark, sequencer.last_received)
        first = self._samples.setdefault(sequencer, newest)
        mark = sequencer.last_of(event)
        if mark < first.mark:
            return
        if mark > first.mark:  # this connector has lost the sample
            first = newest
        if mark == first.mark and first.received is not None:
            self.behind += 1
            self.behind_us += event.received - first.received
        if mark == newest.mark:
            del self._samples[sequencer]
        else:
            self._samples[sequencer] = newest
