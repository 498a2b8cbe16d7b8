"""A Kafka consumer group whose members share out something other than partitions.

Each member says what it does when it joins. The leader, which is one of them, then tells each what
to do. Kafka passes that on unread. Sources: KIP-62 and KIP-345; `kafka_consumer.py` has the limits
of the client.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.errors import GroupAuthorizationFailedError, InconsistentGroupProtocolError

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import Reader, reading_failure
from bridge.errors import SinkRefused, SinkUnavailable

# A member that comes back under its name within this time has not left.
STATIC_SESSION_MS = 45_000
# A member without a name has left after this time without a heartbeat. Brokers allow 6 s or more.
SESSION_MS = 10_000
HEARTBEAT_MS = 1000
# Members that do not answer hold the division up for this long.
REBALANCE_MS = 5000
# aiokafka leaves the group if nothing is fetched for this long, and here nothing ever is.
MAX_POLL_MS = 2**31 - 1
# It matches no topic. A subscription by name might create the topic.
NO_TOPIC = r"(?!)"


class Division(Protocol):
    """What a member says, and does with what the others say."""

    def describe(self) -> bytes:
        """Return what this member does now."""

    def share_out(self, members: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return what each member is to do, by its id: this one is the leader."""

    def take(self, share: bytes, generation: int) -> None:
        """Take what this member is to do. Each division has a greater generation."""


class GroupMember(Reader):
    """A member of a group, while it is open. `name` is one that no other member has, or None.

    While the group does not answer, the last division stays.
    """

    consumer_options: ClassVar[dict[str, Any]] = {
        "enable_auto_commit": False,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        "rebalance_timeout_ms": REBALANCE_MS,
        "max_poll_interval_ms": MAX_POLL_MS,
    }

    def __init__(
        self, options: settings.Kafka, group: str, name: str | None, division: Division
    ) -> None:
        super().__init__(options)
        self._group, self._name, self._division = group, name, division

    def rejoin(self) -> None:
        """Join again, with what this member does now. If that has not changed, the group does not
        notice.
        """
        self._consumer._coordinator.request_rejoin()  # noqa: SLF001

    async def wait(self, timeout_s: float) -> None:
        """Wait. Raises SinkRefused if Kafka denies the group, SinkUnavailable if it has failed."""
        try:
            await self._getmany(round(timeout_s * 1000))
        except FAILURES as error:
            raise self._refusal(error) or reading_failure(self._options, error) from error

    def take(self, share: bytes) -> None:
        """Take what the leader says."""
        self._division.take(share, self._consumer._coordinator.generation)  # noqa: SLF001

    def _options_of_consumer(self) -> dict[str, Any]:
        return super()._options_of_consumer() | {
            "group_id": self._group,
            "group_instance_id": self._name,
            "session_timeout_ms": STATIC_SESSION_MS if self._name else SESSION_MS,
            "partition_assignment_strategy": [_Assignor(self, self._division)],
        }

    async def _open(self) -> None:
        await self._consumer.start()
        self._consumer.subscribe(pattern=NO_TOPIC)

    async def _opening_failure(self, error: Exception) -> SinkRefused | SinkUnavailable:
        return self._refusal(error) or await super()._opening_failure(error)

    def _refusal(self, error: Exception) -> SinkRefused | None:
        if isinstance(error, GroupAuthorizationFailedError):
            return SinkRefused(
                f"Kafka denies the group {self._group!r}",
                "grant Read on the group cluster.group to the user of the bridge",
            )
        if isinstance(error, InconsistentGroupProtocolError):
            return SinkRefused(
                f"the group {self._group!r} has members that are no bridges",
                "give cluster.group a name that no consumer uses",
            )
        return None


class _Assignor:
    """An assignor of aiokafka that assigns no partitions."""

    name = "tickbridge-shards"

    def __init__(self, member: GroupMember, division: Division) -> None:
        self._member, self._division = member, division

    def metadata(self, _topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(0, [], self._division.describe())

    def assign(
        self, _cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        said = {name: member.user_data for name, member in members.items()}
        shares = self._division.share_out(said)
        return {
            name: ConsumerProtocolMemberAssignment(0, [], shares.get(name, b"")) for name in members
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        self._member.take(assignment.user_data)
