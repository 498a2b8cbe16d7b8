"""The section `cluster`."""

from typing import Literal

from pydantic import Field

from bridge.settings.section import Section


class Cluster(Section):
    """Several bridges with the same topics. One of them publishes: the owner."""

    shards: int = Field(default=1, ge=1, le=64)
    """Number of shards. Each has a part of the symbols, with its own connections and its own
    owner. It must divide kafka.partitions, and the partitions of topics that exist."""
    standby: int = Field(default=0, ge=0, le=1)
    """1: while another bridge of the group is the owner, this one receives the same streams, waits,
    and takes over when the owner stops or fails. 0: this bridge takes over at its start."""
    group: str = Field(default="tickbridge", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    """Name of the group of bridges that stand by for each other."""
    takeover_ms: int = Field(default=2000, ge=500, le=60_000)
    """Time without a heartbeat of the owner in Kafka after which a standby takes over, in
    milliseconds."""
    if_owned: Literal["take_over", "refuse"] = "take_over"
    """What a start does if another bridge is the owner, and this one does not stand by for it. A
    bridge of another group counts as one. refuse: end with exit code 4."""
