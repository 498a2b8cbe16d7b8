"""What the shards of a bridge have built so far, and the sinks of all shards as one."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, methodcaller

from bridge.core.model.events import SymbolStatus
from bridge.core.model.shard import ShardId
from bridge.core.sequencing.sequencers import Sequencers
from bridge.pipeline.gap_repair import Repairer
from bridge.pipeline.sink import Sink
from bridge.sinks.kafka.owner import Role
from bridge.sinks.kafka.owner_watch import OwnerWatch
from bridge.telemetry import SinkCounts


@dataclass(slots=True, eq=False)
class ShardStatus:
    """The state that a shard fills in. `owner_watch` is set while it stands by, `publishes` is set
    after that. `role` is what the group wants.
    """

    id: ShardId
    role: Role
    sinks: Sequence[Sink]
    publishes: asyncio.Event = field(default_factory=asyncio.Event)
    sequencers: Sequencers | None = None
    repairer: Repairer | None = None
    symbols: dict[str, SymbolStatus] = field(default_factory=dict)
    owner_watch: OwnerWatch | None = None

    @property
    def is_owner(self) -> bool:
        """Return whether this bridge may publish the shard."""
        return self.publishes.is_set()

    @property
    def is_watching(self) -> bool:
        """Return whether it stands by, and reads the heartbeats of the owner."""
        return self.owner_watch is not None and self.owner_watch.is_reading

    def leave_records(self) -> None:
        """Drop the records that wait: they are left to the bridge that has taken over."""
        for sink in self.sinks:
            sink.counts.leave(sink.pending())
        self.sinks = ()


class SinkGroup:
    """The same sink of all shards. They share its counters."""

    def __init__(self, kind: type[Sink], shards: Sequence[ShardStatus]) -> None:
        self.name = kind.name
        self.drop_causes, self.failure_reasons = kind.drop_causes, kind.failure_reasons
        self.counts = SinkCounts()
        self._shards = shards

    @property
    def ready(self) -> bool:
        """Return whether the sinks of all shards are connected that do not stand by."""
        return all(sink.ready for sink in self._sinks(with_standbys=False))

    @property
    def records_on_disk(self) -> int:
        """Return the number of records on disk."""
        return sum(map(attrgetter("records_on_disk"), self._sinks()))

    @property
    def limits(self) -> Counter[str]:
        """Return the summed bounds of the buffers, by the name of the metric."""
        total = Counter[str]()
        for sink in self._sinks():
            total.update(sink.limits)
        return total

    def pending(self) -> Counter[str]:
        """Return the number of records in the buffers by message type."""
        return sum(map(methodcaller("pending"), self._sinks()), Counter())

    def pending_bytes(self) -> int:
        """Return the size of the records in the buffers, in bytes."""
        return sum(map(methodcaller("pending_bytes"), self._sinks()))

    def spill_bytes(self) -> int:
        """Return the size of the records on disk, in bytes."""
        return sum(map(methodcaller("spill_bytes"), self._sinks()))

    def buffer_share(self) -> float:
        """Return how much of the fullest buffer in memory is taken, 0 to 1."""
        return max(map(methodcaller("buffer_share"), self._sinks()), default=0.0)

    def oldest_received(self) -> int | None:
        """Return when the frame of the oldest record arrived, in microseconds."""
        times = map(methodcaller("oldest_received"), self._sinks())
        return min((time for time in times if time is not None), default=None)

    def _sinks(self, *, with_standbys: bool = True) -> Iterator[Sink]:
        for shard in self._shards:
            if with_standbys or shard.owner_watch is None:
                yield from (sink for sink in shard.sinks if sink.name == self.name)
