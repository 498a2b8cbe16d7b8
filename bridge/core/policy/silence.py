"""Detect that a stream, or a whole connection, is silent for much longer than usual.

Each stream has its own usual interval: the weighted mean of the intervals between checks that found
new data. A stream without regular data is not judged, and a quiet stream may be silent for minutes.
When all streams are silent at once a fault is more likely, so the limit for a whole connection is
tighter.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

_NEVER_S = float("inf")
# The weight of the latest interval in the mean.
_WEIGHT = 0.1
# After this many intervals a stream is judged.
REGULAR_INTERVALS = 10
# A silence of this many mean intervals is not chance: in a Poisson process one interval in 500
# million is that long.
SILENT_INTERVALS = 20
STREAM_FLOOR_S = 60.0
STREAM_CEILING_S = 900.0
CONNECTION_FLOOR_S = 10.0
CONNECTION_CEILING_S = 300.0
# If only some streams are silent, the market is more likely quiet than the connection at fault. So
# the connection is replaced for them at most once in this time.
STREAM_PAUSE_S = 600.0


class Silence(NamedTuple):
    """`streams` have been silent for `silent_s`; `whole` if the whole connection is silent."""

    streams: list[str]
    silent_s: float
    whole: bool


class IntervalEstimate:
    """The mean interval of one stream, and the start of its current silence."""

    __slots__ = ("_heard_s", "_intervals", "mean_s", "since_s")

    def __init__(self, now_s: float) -> None:
        self.mean_s = 0.0
        self.since_s = now_s
        self._heard_s: float | None = None
        self._intervals = 0

    def heard(self, now_s: float, slack_s: float = 0.0) -> None:
        """Note that data has arrived, at most `slack_s` before `now_s`.

        The interval is shortened by `slack_s`.
        """
        if self._heard_s is not None:
            self._note(max(0.0, now_s - self._heard_s - slack_s))
        self._heard_s = self.since_s = now_s

    def begin(self, now_s: float) -> None:
        """Restart the silence at zero, for a new connection."""
        self._heard_s, self.since_s = None, now_s

    def learn(self, now_s: float) -> None:
        """Count a silence that was acted upon as an interval.

        The stream is not judged again until it has had REGULAR_INTERVALS new intervals.
        """
        self._note(now_s - self.since_s)
        self._intervals = 0

    def limit_s(self, floor_s: float, ceiling_s: float) -> float:
        """Return the longest normal silence; infinite if the stream is not judged."""
        if self._intervals < REGULAR_INTERVALS:
            return _NEVER_S
        return min(max(SILENT_INTERVALS * self.mean_s, floor_s), ceiling_s)

    def _note(self, interval_s: float) -> None:
        weight = _WEIGHT if self._intervals or self.mean_s else 1.0
        self.mean_s += weight * (interval_s - self.mean_s)
        self._intervals += 1


class SilenceDetector:
    """The usual intervals of a set of streams, across successive connections.

    `marks` has a value for each stream that has sent data; the value changes with each message.
    """

    def __init__(self, now_s: float) -> None:
        self._all = IntervalEstimate(now_s)
        self._streams: dict[str, IntervalEstimate] = {}
        self._marks: dict[str, int] = {}
        self._frames = 0
        self._fruitless = 0
        self._pause_until_s = now_s
        self._looked_s = now_s

    def begin(self, now_s: float, names: Collection[str]) -> None:
        """Start on a new connection with these streams, which has brought nothing yet."""
        self._marks, self._frames, self._looked_s = {}, 0, now_s
        self._streams = {name: r for name, r in self._streams.items() if name in names}
        for estimate in (self._all, *self._streams.values()):
            estimate.begin(now_s)

    def look(self, now_s: float, frames: int, marks: Mapping[str, int]) -> Silence | None:
        """Return a silence beyond its limit that should be acted upon now.

        `frames` is the number of all frames that the connection has brought.
        """
        slack_s, self._looked_s = now_s - self._looked_s, now_s
        if frames > self._frames:
            # Only the time of checks without new frames counts: on a busy connection it is 0.
            self._all.heard(now_s, slack_s)
            self._frames, self._fruitless = frames, 0
            self._note(now_s, marks)
        return self._whole(now_s) or self._some(now_s)

    def stalled(self, now_s: float) -> list[str]:
        """Return the streams that are silent for longer than their limits."""
        return [
            name
            for name, estimate in self._streams.items()
            # No limit is below the floor, so mostly no limit has to be calculated.
            if (silent_s := now_s - estimate.since_s) > STREAM_FLOOR_S
            and silent_s > estimate.limit_s(STREAM_FLOOR_S, STREAM_CEILING_S)
        ]

    def _note(self, now_s: float, marks: Mapping[str, int]) -> None:
        for name, mark in marks.items():
            if self._marks.get(name) != mark:
                self._marks[name] = mark
                estimate = self._streams.get(name)
                if estimate is None:
                    estimate = self._streams[name] = IntervalEstimate(now_s)
                estimate.heard(now_s)

    def _whole(self, now_s: float) -> Silence | None:
        """Return the silence of the whole connection, if it is beyond its limit.

        Each successive connection without data gets twice the limit of the previous one.
        """
        limit_s = self._all.limit_s(CONNECTION_FLOOR_S, CONNECTION_CEILING_S)
        silent_s = now_s - self._all.since_s
        if silent_s <= min(limit_s * 2**self._fruitless, max(limit_s, CONNECTION_CEILING_S)):
            return None
        self._fruitless += 1
        return Silence(list(self._streams), silent_s, whole=True)

    def _some(self, now_s: float) -> Silence | None:
        stalled = self.stalled(now_s) if now_s >= self._pause_until_s else []
        if not stalled:
            return None
        self._pause_until_s = now_s + STREAM_PAUSE_S
        silent_s = max(now_s - self._streams[name].since_s for name in stalled)
        for name in stalled:
            self._streams[name].learn(now_s)
        return Silence(stalled, silent_s, whole=False)
