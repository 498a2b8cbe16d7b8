"""What a running bridge says of itself: the view that health and metrics are made from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge.binance.feed import Feed
from bridge.binance.leg import State
from bridge.core.tracks import Tracks
from bridge.sinks.base import Sink
from bridge.telemetry import FeedCounts


@dataclass(slots=True)
class Status:
    """Filled in by the service as it starts; `feed` is None until the streams are known."""

    message_types: Sequence[str]
    sinks: Sequence[Sink]
    counts: FeedCounts = field(default_factory=FeedCounts)
    feed: Feed | None = None
    tracks: Tracks | None = None
    refused: Sequence[str] = ()
    draining: bool = False

    def legs(self) -> dict[tuple[str, ...], float]:
        """Number of legs in each state."""
        states = Counter(leg.state for leg in self.feed.legs) if self.feed else Counter()
        return {(state.value,): states[state] for state in State}

    def repeats(self) -> Counter[str]:
        """Events dropped as repeats, by message type."""
        return self.tracks.repeats() if self.tracks else Counter()

    def held(self) -> int:
        """Events that wait behind a hole."""
        return self.tracks.held() if self.tracks else 0

    def silent_streams(self) -> list[str]:
        """Streams that have never sent anything."""
        return self.feed.silent() if self.feed else []

    def unready(self) -> list[str]:
        """Why the bridge is not ready; empty when it is."""
        reasons = ["draining: a signal asked the bridge to stop"] if self.draining else []
        reasons += [f"{sink.name}: not connected" for sink in self.sinks if not sink.ready]
        if self.feed is None:
            reasons.append("feed: the streams are not known yet")
        elif not self.feed.ready:
            reasons += [
                f"{leg.name}: {leg.state.value}, {len(leg.silent())} of {len(leg.streams)} streams "
                "silent"
                for leg in self.feed.legs
                if leg.state is not State.OPEN or len(leg.silent()) == len(leg.streams)
            ]
        return reasons
