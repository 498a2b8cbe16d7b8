"""What one leg has brought, and how far behind the other leg it was.

An event costs nothing here; a repeat costs a look-up and a comparison. Behind is measured by
samples: when a repeat of the sampled event comes, the next sample is the newest event.
"""

from typing import NamedTuple

from bridge.core.model.events import Event
from bridge.core.sequencing.rules import Track


class _Sample(NamedTuple):
    """An event by its id or time, and when it arrived, unless it was fetched."""

    mark: int
    received: int | None


class Arrivals:
    """Plain counts of one leg: `events` came, `repeats` of them had come before.

    `behind` repeats were sampled; `behind_us` is the sum of their delays. Sampled only while
    `compares`: while the leg has one connection, and another leg has the same streams.
    """

    __slots__ = ("_samples", "behind", "behind_us", "compares", "events", "repeats")

    def __init__(self) -> None:
        self.events = 0
        self.repeats = 0
        self.behind = 0
        self.behind_us = 0
        self.compares = False
        self._samples: dict[Track, _Sample] = {}

    def add(self, other: "Arrivals") -> None:
        """Take over the counts of a leg that has ended."""
        self.events += other.events
        self.repeats += other.repeats
        self.behind += other.behind
        self.behind_us += other.behind_us

    def repeated(self, track: Track, event: Event) -> None:
        """The track has dropped this event as a repeat."""
        self.repeats += 1
        if not self.compares or track.last_mark is None:
            return
        newest = _Sample(track.last_mark, track.last_received)
        first = self._samples.setdefault(track, newest)
        mark = track.last_of(event)
        if mark < first.mark:
            return
        if mark > first.mark:  # this leg has lost the sample
            first = newest
        if mark == first.mark and first.received is not None:
            self.behind += 1
            self.behind_us += event.received - first.received
        if mark == newest.mark:
            del self._samples[track]
        else:
            self._samples[track] = newest
