"""The owner of a shard, and the record with which it names itself.

The record lies in the position topic, under the transactional id. It is written before the fence is
raised, and again and again after that, as a heartbeat. A standby reads it (`owner_watch.py`).

A second record names the owners that were shut out because their shards had some of the same
partitions: the number of shards has changed. A third one names the standby (`standby.py`).
"""

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

from bridge import settings
from bridge.core.model.shard import WHOLE, ShardId, parse_shard
from bridge.core.model.stream import SPOT
from bridge.core.model.unreadable import decode_ours
from bridge.core.records.record import topic_name
from bridge.core.sequencing.position import MESSAGE_TYPE
from bridge.telemetry import now_us

# So many heartbeats are due before a standby takes over.
BEATS_PER_TAKEOVER = 4
# The keys of these records, which lie among the positions, begin like this.
OWNER_PREFIX = b"owner:"
FENCED_PREFIX = b"fenced:"
STANDBY_PREFIX = b"standby:"
# The message type of the records in the outbox of positions.
OWNER = "owner"

# live: receives all streams. cut: no connection carries some of them. released: has stopped.
State = Literal["live", "cut", "released"]
RoleKind = Literal["owner", "standby", "none"]


@dataclass(slots=True)
class Role:
    """What the group wants of this bridge for a shard, as of a generation of the group. `other` is
    the name of the bridge in the other role. Without a group this bridge is the owner.
    """

    kind: RoleKind = "owner"
    other: str = ""
    generation: int = -1

    def become(self, other: "Role") -> None:
        """Take what the group wants now."""
        self.kind, self.other, self.generation = other.kind, other.other, other.generation


class Reception(Protocol):
    """What a bridge receives of a shard.

    `is_cut`: no connection carries some of the streams. `silent_s` is for how many seconds the most
    silent connection has brought nothing, at most since its opening. With `has_frames` it is
    infinite if a connection has never brought anything.

    `streams` is a digest of the names of the streams. No event of theirs was missed since
    `whole_since`, in microseconds, if all connections are open. `lag_s` is for how many seconds
    events may wait that are not in the outbox. It is infinite until there is a pipeline.
    """

    @property
    def is_cut(self) -> bool: ...

    def silent_s(self, *, has_frames: bool = False) -> float: ...

    @property
    def streams(self) -> str: ...

    @property
    def whole_since(self) -> int: ...

    def lag_s(self) -> float: ...


class Owner(msgspec.Struct, frozen=True):
    """A bridge that has opened the transactional id. `started` is in microseconds.

    `silent_s` is that of its `Reception`; 0 if no connection is open. This bridge and the ones
    before it have missed no event of `streams` since `whole_since`; 0: unknown. What it received
    until `lag_s` before the heartbeat is in Kafka. `producer_id` and `epoch` are what Kafka gave it
    at the opening. `generation` is that of the group, as far as it knows; -1 without a group. It is
    the owner since `since`, in microseconds. `takeovers` counts how often the shard has passed to a
    bridge of another name.
    """

    host: str
    process: int
    started: int
    group: str = ""
    instance_id: str | None = None
    since: int = 0
    takeovers: int = 0
    state: State = "live"
    silent_s: float = 0.0
    streams: str = ""
    whole_since: int = 0
    lag_s: float = 0.0
    producer_id: int = -1
    epoch: int = -1
    generation: int = -1

    @property
    def name(self) -> str:
        """Return the name of the bridge in the group."""
        return self.instance_id or f"{self.host}/{self.process}"

    @property
    def opening(self) -> tuple[int, int]:
        """Return what rises with each opening. The record of an earlier owner may come late."""
        return self.producer_id, self.epoch

    def __str__(self) -> str:
        started = datetime.fromtimestamp(self.started // 1_000_000, UTC)
        name = f"{self.instance_id}, " if self.instance_id else ""
        return (
            f"{name}process {self.process} on {self.host}, started at {started:%Y-%m-%dT%H:%M:%SZ}"
        )

    def is_same(self, other: "Owner") -> bool:
        """Return whether both are the same bridge, in whatever state."""
        return (self.host, self.process, self.started) == (other.host, other.process, other.started)

    def after(self, previous: "Owner | None") -> "Owner":
        """Return this bridge as the owner from now on, after another one or its own last start."""
        takeovers = 0
        if previous is not None:
            takeovers = previous.takeovers + (previous.name != self.name)
        return replace(self, since=now_us(), takeovers=takeovers)


# By transactional id: the opening with which its owners were shut out. Later ones count again.
Openings = dict[str, tuple[int, int]]
NEVER = (-1, -1)

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Owner).decode
_decode_fenced = msgspec.json.Decoder(Openings).decode


def this_bridge(cluster: settings.Cluster) -> Owner:
    """Return this bridge as an owner."""
    now = now_us()
    return Owner(socket.gethostname(), os.getpid(), now, cluster.group, cluster.instance_id, now)


def read_owner(value: bytes | None) -> Owner | None:
    """Return the owner that a record names; None if the record is not ours."""
    return decode_ours(_decode, value)


def position_topic(options: settings.Kafka) -> str:
    """Return the name of the topic with the positions and these records."""
    return topic_name(options.topic, SPOT, MESSAGE_TYPE)


def transactional_id_of(
    options: settings.Kafka, position_topic: str, shard: ShardId = WHOLE
) -> str:
    """Return the transactional id of all owners of a shard; empty: no fence."""
    base = options.transactional_id
    if base is None:
        base = f"tickbridge.{position_topic}"
    return base if not base or shard == WHOLE else f"{base}.{shard}"


def shard_of(transactional_id: str, base: str) -> ShardId | None:
    """Return the shard of a transactional id, if it is one of those with this base."""
    if transactional_id == base:
        return WHOLE
    before, _, last = transactional_id.rpartition(".")
    return parse_shard(last) if before == base else None


def owner_key(transactional_id: str) -> bytes:
    """Return the key of the records that name the owner."""
    return OWNER_PREFIX + transactional_id.encode()


def fenced_key(transactional_id: str) -> bytes:
    """Return the key of the record that names the owners of other shards that were shut out."""
    return FENCED_PREFIX + transactional_id.encode()


def is_about_owners(key: bytes | None) -> bool:
    """Return whether a record of the position topic is no position, but one of these records."""
    return (key or b"").startswith((OWNER_PREFIX, FENCED_PREFIX, STANDBY_PREFIX))


class Owners:
    """The owners of the partitions of a shard, from the records of the position topic.

    If the number of shards has changed, shards of the earlier number had the same partitions. Such
    an owner counts until the shard has shut it out.
    """

    def __init__(self, options: settings.Kafka, position_topic: str, shard: ShardId) -> None:
        self.id = transactional_id_of(options, position_topic, shard)
        self._base = transactional_id_of(options, position_topic)
        self._shard = shard
        # By transactional id.
        self._last: dict[str, Owner] = {}
        self.fenced: Openings = {}

    def see(self, key: bytes | None, value: bytes | None) -> str | None:
        """Take the next record of the topic. Return the transactional id whose owner it names, if
        it names one that counts.
        """
        if key == fenced_key(self.id):
            self.fenced = decode_ours(_decode_fenced, value) or self.fenced
            return None
        name = (key or b"").removeprefix(OWNER_PREFIX).decode(errors="replace")
        owner = read_owner(value) if key == owner_key(name) and self._may_share(name) else None
        known = self._last.get(name)
        if owner is None or (known is not None and owner.opening < known.opening):
            return None
        self._last[name] = owner
        return name if name in self.present() else None

    def present(self) -> dict[str, Owner]:
        """Return the owners that this shard has not shut out, by their transactional ids."""
        return {
            name: owner
            for name, owner in self._last.items()
            if name == self.id or owner.opening > self.fenced.get(name, NEVER)
        }

    def _may_share(self, name: str) -> bool:
        """Return whether a transactional id is that of the shard, or of one of another number of
        shards that has some of the same partitions.
        """
        other = shard_of(name, self._base)
        if name == self.id or other is None:
            return name == self.id
        return other.count != self._shard.count and other.overlaps(self._shard)
