"""The owner of the topics, and the record with which it names itself.

The record lies in the position topic, under the transactional id. It is written before the fence is
raised, and again and again after that, as a heartbeat. A standby reads it (`owner_watch.py`).
"""

import os
import socket
from datetime import UTC, datetime
from typing import Literal

import msgspec

from bridge import settings
from bridge.core.model.unreadable import decode_ours
from bridge.telemetry import now_us

# So many heartbeats are due before a standby takes over.
BEATS_PER_TAKEOVER = 4
# The keys of these records, which lie among the positions, begin like this.
OWNER_PREFIX = b"owner:"
# The message type of the records in the outbox of positions.
OWNER = "owner"

# live: receives all streams. cut: no connection carries some of them. released: has stopped.
State = Literal["live", "cut", "released"]


class Owner(msgspec.Struct, frozen=True):
    """A bridge that has opened the transactional id. `started` is in microseconds.

    `producer_id` and `epoch` are what Kafka gave it at the opening.
    """

    host: str
    process: int
    started: int
    group: str = ""
    state: State = "live"
    producer_id: int = -1
    epoch: int = -1

    @property
    def opening(self) -> tuple[int, int]:
        """Return what rises with each opening. The record of an earlier owner may come late."""
        return self.producer_id, self.epoch

    def __str__(self) -> str:
        started = datetime.fromtimestamp(self.started // 1_000_000, UTC)
        return f"process {self.process} on {self.host}, started at {started:%Y-%m-%dT%H:%M:%SZ}"

    def is_same(self, other: "Owner") -> bool:
        """Return whether both are the same bridge, in whatever state."""
        return (self.host, self.process, self.started) == (other.host, other.process, other.started)


encode_owner = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Owner).decode


def this_bridge(group: str) -> Owner:
    """Return this bridge as an owner."""
    return Owner(socket.gethostname(), os.getpid(), now_us(), group)


def read_owner(value: bytes | None) -> Owner | None:
    """Return the owner that a record names; None if the record is not ours."""
    return decode_ours(_decode, value)


def transactional_id_of(options: settings.Kafka, position_topic: str) -> str:
    """Return the transactional id of all bridges with this position topic; empty: no fence."""
    if options.transactional_id is None:
        return f"tickbridge.{position_topic}"
    return options.transactional_id


def owner_key(transactional_id: str) -> bytes:
    """Return the key of the records that name the owner."""
    return OWNER_PREFIX + transactional_id.encode()
