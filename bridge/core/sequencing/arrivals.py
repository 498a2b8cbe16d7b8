"""What one connector has brought, and how far behind the other connector it was.

An event costs nothing here; a repeat costs a look-up and a comparison. Behind is measured by
samples: when a repeat of the sampled event comes, the next sample is the newest event.
"""

from typing import NamedTuple

from bridge.core.model.events import Event
from bridge.core.sequencing.rules import Sequencer


class _Sample(NamedTuple):
    """An event by its id or time, and when it arrived, unless it was fetched."""

    mark: int
    received: int | None


class Arrivals:
    """Plain counts of one connector: `events` came, `duplicates` of them had come before.

    `behind` duplicates were sampled; `behind_us` is the sum of their delays. Sampled only while
    `compares`: while the connector has one connection, and another connector has the same streams.
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
        """Take over the counts of a connector that has ended."""
        self.events += other.events
        self.duplicates += other.duplicates
        self.behind += other.behind
        self.behind_us += other.behind_us

    def count_duplicate(self, sequencer: Sequencer, event: Event) -> None:
        """The sequencer has dropped this event as a repeat."""
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
