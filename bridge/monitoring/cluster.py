"""Which bridge owns each shard, and which stands by: from the records that they write to Kafka."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.core.model.shard import ShardId
from bridge.core.model.unreadable import decode_ours
from bridge.errors import BridgeUnavailable
from bridge.sinks.kafka.owner import (
    OWNER_PREFIX,
    STANDBY_PREFIX,
    Owner,
    State,
    position_topic,
    read_owner,
    shard_of,
    transactional_id_of,
)
from bridge.sinks.kafka.standby import INTERVAL_S, Standby, decode_standby
from bridge.telemetry import now_us

# Older records say nothing about now.
WINDOW_S = 300.0
# A record may be late by so much, and the clocks of the machines may differ.
LATE_S = 3.0


OwnerState = State | Literal["silent"]
StandbyState = Literal["ready", "cut", "silent"]
_STATES = {
    "cut": "does not receive all streams",
    "released": "has stopped",
    "silent": "is not heard of any more",
}


class OwnerStatus(msgspec.Struct):
    """A bridge that owns a shard since `since` (microseconds), and was heard of `heard_s` ago.

    `silent` means that its heartbeats are missing. The shard has passed to a bridge of another name
    `takeovers` times.
    """

    name: str
    state: OwnerState
    since: int
    heard_s: float
    takeovers: int


class StandbyStatus(msgspec.Struct):
    """A bridge that stands by since `since` (microseconds), and was heard of `heard_s` ago.

    Its last frame was `lag_s` old. `cut` means that it does not receive all streams.
    """

    name: str
    state: StandbyState
    since: int
    heard_s: float
    lag_s: float


class ClusterShard(msgspec.Struct):
    """A shard. A bridge of which nothing was heard for WINDOW_S is None."""

    name: str
    owner: OwnerStatus | None
    standby: StandbyStatus | None


class ClusterStatus(msgspec.Struct):
    """The shards of the topics of a bridge, and what is wrong with them."""

    shards: list[ClusterShard]
    wrong: list[str]


async def read_cluster(options: settings.Kafka, cluster: settings.Cluster) -> ClusterStatus:
    """Return who owns the shards of these topics, and who stands by.

    Raises BridgeUnavailable if no bridge has written to them for WINDOW_S, SinkUnavailable and
    SinkRefused.
    """
    topic = position_topic(options)
    found = _Records(transactional_id_of(options, topic), cluster.takeover_ms / 1000)
    now = now_us()
    async with TopicReader(options) as reader:
        bounds = await reader.bounds(topic, now // 1000 - round(WINDOW_S * 1000))
        async for _, records in reader.read(topic, bounds):
            for record in records:
                age_s = max(0.0, now / 1e6 - record.timestamp / 1000)
                found.see(record.key or b"", record.value, age_s)
    shards = found.shards()
    if not shards:
        raise BridgeUnavailable(
            f"no bridge has written to the topic {topic} for {WINDOW_S / 60:.0f} minutes",
            "start a bridge (tickbridge run), or set kafka.topic as the bridge has it",
        )
    return ClusterStatus(shards, [*_wrong(shards, needs_standby=cluster.standby > 0)])


class _Records:
    """The last records of each shard. `base` is the transactional id of a bridge without shards."""

    def __init__(self, base: str, takeover_s: float) -> None:
        self._base, self._takeover_s = base, takeover_s
        # Each with its age in seconds.
        self._owners: dict[ShardId, tuple[Owner, float]] = {}
        self._standbys: dict[ShardId, tuple[Standby, float]] = {}

    def see(self, key: bytes, value: bytes | None, age_s: float) -> None:
        """Take the next record of the position topic."""
        if shard := self._shard(key, OWNER_PREFIX):
            owner = read_owner(value)
            known = self._owners.get(shard)
            if owner and (known is None or owner.opening >= known[0].opening):
                self._owners[shard] = owner, age_s
        elif (shard := self._shard(key, STANDBY_PREFIX)) and (
            standby := decode_ours(decode_standby, value)
        ):
            self._standbys[shard] = standby, age_s

    def shards(self) -> list[ClusterShard]:
        """Return all shards of the number that was heard of last, and others that have an owner."""
        if not self._owners:
            return []
        owners = {shard: self._owner(*last) for shard, last in self._owners.items()}
        count = min(owners, key=lambda shard: owners[shard].heard_s).count
        alive = (s for s, owner in owners.items() if owner.state in {"live", "cut"})
        numbered = (ShardId(number, count) for number in range(count))
        return [
            ClusterShard(str(shard), owners.get(shard), self._standby(shard, owners.get(shard)))
            for shard in sorted({*numbered, *alive}, key=lambda each: (each.count, each.number))
        ]

    def _owner(self, owner: Owner, age_s: float) -> OwnerStatus:
        is_silent = owner.state != "released" and age_s > self._takeover_s + LATE_S
        state = "silent" if is_silent else owner.state
        return OwnerStatus(owner.name, state, owner.since, age_s, owner.takeovers)

    def _standby(self, shard: ShardId, owner: OwnerStatus | None) -> StandbyStatus | None:
        """Return the bridge that stands by. The present owner was one before."""
        standby, age_s = self._standbys.get(shard, (None, 0.0))
        if standby is None or (owner and owner.name == standby.name):
            return None
        state: StandbyState = "cut" if standby.is_cut else "ready"
        if age_s > INTERVAL_S + LATE_S:
            state = "silent"
        return StandbyStatus(standby.name, state, standby.since, age_s, standby.lag_s)

    def _shard(self, key: bytes, prefix: bytes) -> ShardId | None:
        """Return the shard that a key of these names, if it is one of these topics."""
        if not key.startswith(prefix):
            return None
        return shard_of(key.removeprefix(prefix).decode(errors="replace"), self._base)


def _wrong(shards: Sequence[ClusterShard], *, needs_standby: bool) -> Iterator[str]:
    for shard in shards:
        if shard.owner is None:
            yield f"{shard.name}: no owner"
        elif shard.owner.state != "live":
            yield f"{shard.name}: the owner {_STATES[shard.owner.state]}"
        if not needs_standby:
            continue
        if shard.standby is None:
            yield f"{shard.name}: no standby"
        elif shard.standby.state != "ready":
            yield f"{shard.name}: the standby {_STATES[shard.standby.state]}"
