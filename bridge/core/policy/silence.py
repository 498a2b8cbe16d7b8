"""When a stream, or all of a connection, has been silent for much longer than is its way.

Each stream has its own rhythm: the weighted mean of the intervals between looks that found
something new. A stream that was never regular is not judged; a quiet one may be silent for minutes.
All streams silent at once says more than one alone, so there the limit is tighter.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

_NEVER_S = float("inf")
# Weight of the latest interval in the mean.
_WEIGHT = 0.1
# So many intervals make a rhythm.
REGULAR_INTERVALS = 10
# So many means of silence are no accident: of a Poisson process, one interval in 500 million.
SILENT_INTERVALS = 20
STREAM_FLOOR_S = 60.0
STREAM_CEILING_S = 900.0
CONNECTION_FLOOR_S = 10.0
CONNECTION_CEILING_S = 300.0
# Streams silent alone are more often a quiet market than a fault: one attempt in so long.
STREAM_PAUSE_S = 600.0


class Silence(NamedTuple):
    """`streams` have said nothing for `silent_s`; `whole`: nor has any other of the connection."""

    streams: list[str]
    silent_s: float
    whole: bool


class IntervalEstimate:
    """The intervals of one stream."""

    __slots__ = ("_heard_s", "_intervals", "mean_s", "since_s")

    def __init__(self, now_s: float) -> None:
        self.mean_s = 0.0
        self.since_s = now_s
        self._heard_s: float | None = None
        self._intervals = 0

    def heard(self, now_s: float, slack_s: float = 0.0) -> None:
        """Something has come, `slack_s` ago at the most; so much the interval may be shorter."""
        if self._heard_s is not None:
            self._note(max(0.0, now_s - self._heard_s - slack_s))
        self._heard_s = self.since_s = now_s

    def begin(self, now_s: float) -> None:
        """On a new connection silence counts anew."""
        self._heard_s, self.since_s = None, now_s

    def learn(self, now_s: float) -> None:
        """This silence has been acted upon: it counts as an interval, and the rhythm is gone."""
        self._note(now_s - self.since_s)
        self._intervals = 0

    def limit_s(self, floor_s: float, ceiling_s: float) -> float:
        """How long it may be silent."""
        if self._intervals < REGULAR_INTERVALS:
            return _NEVER_S
        return min(max(SILENT_INTERVALS * self.mean_s, floor_s), ceiling_s)

    def _note(self, interval_s: float) -> None:
        weight = _WEIGHT if self._intervals or self.mean_s else 1.0
        self.mean_s += weight * (interval_s - self.mean_s)
        self._intervals += 1


class SilenceDetector:
    """The rhythms of a set of streams, over one connection after another.

    `marks` says of each stream that has been heard something that changes with each message.
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
        """A new connection with these streams: nothing has been heard on it."""
        self._marks, self._frames, self._looked_s = {}, 0, now_s
        self._streams = {name: r for name, r in self._streams.items() if name in names}
        for rhythm in (self._all, *self._streams.values()):
            rhythm.begin(now_s)

    def look(self, now_s: float, frames: int, marks: Mapping[str, int]) -> Silence | None:
        """What is silent beyond its limit and should be acted upon now.

        `frames` is how many the connection has brought in all.
        """
        slack_s, self._looked_s = now_s - self._looked_s, now_s
        if frames > self._frames:
            # What counts is looks in vain: on a busy connection there are none.
            self._all.heard(now_s, slack_s)
            self._frames, self._fruitless = frames, 0
            self._note(now_s, marks)
        return self._whole(now_s) or self._some(now_s)

    def stalled(self, now_s: float) -> list[str]:
        """The streams that are silent beyond their limits."""
        return [
            name
            for name, rhythm in self._streams.items()
            # No limit is below the floor: mostly none has to be worked out.
            if (silent_s := now_s - rhythm.since_s) > STREAM_FLOOR_S
            and silent_s > rhythm.limit_s(STREAM_FLOOR_S, STREAM_CEILING_S)
        ]

    def _note(self, now_s: float, marks: Mapping[str, int]) -> None:
        for name, mark in marks.items():
            if self._marks.get(name) != mark:
                self._marks[name] = mark
                rhythm = self._streams.get(name)
                if rhythm is None:
                    rhythm = self._streams[name] = IntervalEstimate(now_s)
                rhythm.heard(now_s)

    def _whole(self, now_s: float) -> Silence | None:
        """Each connection in a row that brings nothing gets twice the time of the one before."""
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
