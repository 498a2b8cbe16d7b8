"""The section `cluster`."""

from typing import Literal

from pydantic import Field

from bridge.settings.section import Section

_NAME = r"^[a-zA-Z0-9._-]{1,100}$"


class Cluster(Section):
    """Several bridges with the same topics. Each shard has one owner, which publishes it."""

    shards: int = Field(default=1, ge=1, le=64)
    """Number of shards. Each has a part of the symbols, with its own connections and its own
    owner. It must divide kafka.partitions, and the partitions of topics that exist."""
    standby: int = Field(default=0, ge=0, le=1)
    """1: for each shard a second bridge of the group receives the same streams, waits, and takes
    over when the owner stops or fails. 0: without shards, this bridge takes over at its start."""
    group: str = Field(default="tickbridge", pattern=_NAME)
    """Name of the Kafka consumer group of the bridges that share the shards. It is used with
    standby or shards, and no other program may use it."""
    instance_id: str | None = Field(default=None, pattern=_NAME)
    """Name of this bridge in the group, the same after a restart, and no other bridge may have it.
    A bridge that is back within 45 s has its shards again. null: its shards go to the others at
    once."""
    takeover_ms: int = Field(default=2000, ge=500, le=60_000)
    """Time without a heartbeat of the owner in Kafka after which a standby takes over, in
    milliseconds."""
    if_owned: Literal["take_over", "refuse"] = "take_over"
    """What a start does if another bridge is the owner, and this one does not stand by for it. A
    bridge of another group counts as one. refuse: end with exit code 4."""

    @property
    def has_group(self) -> bool:
        """Return whether the bridges share the shards, so that they need a group."""
        return self.standby > 0 or self.shards > 1
