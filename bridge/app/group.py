"""The place of this bridge in the group that shares the shards."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from bridge.brokers.kafka_group import GroupMember
from bridge.core.model.unreadable import decode_ours
from bridge.core.policy.roles import Member, Roles, share_out
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.retry import Backoff, forever
from bridge.settings import Settings
from bridge.sinks.kafka.owner import position_topic, this_bridge

MAX_DELAY_S = 5.0
# Between two looks at the errors of the client.
LOOK_S = 1.0
# The group may need this long at a start, before the log warns.
JOIN_TIMEOUT_S = 15.0

log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder().encode
_decode_member = msgspec.json.Decoder(Member).decode
_decode_roles = msgspec.json.Decoder(Roles).decode


class Group:
    """A member of the group. `owned` and `watched` return the numbers of the shards that this
    bridge owns, and those that it stands by for.

    `roles` are what the group wants of it, None at first, and `generation` says since when.
    """

    def __init__(
        self,
        settings: Settings,
        owned: Callable[[], Iterable[int]],
        watched: Callable[[], Iterable[int]],
    ) -> None:
        self.roles: Roles | None = None
        self.generation = -1
        # Set when the roles have changed.
        self.changed = asyncio.Event()
        self._options, self._cluster = settings.kafka, settings.cluster
        self._name = this_bridge(self._cluster).name
        self._topic = position_topic(settings.kafka)
        self._owned, self._watched = owned, watched
        self._attempt = 0
        self._must_rejoin = False

    async def run(self) -> None:
        """Be a member until cancelled. Raises SinkRefused if Kafka denies the group at first."""
        backoff = Backoff(MAX_DELAY_S)

        def on_retry(error: Exception, delay_s: float) -> None:
            if backoff.should_log(error):
                log.warning("group_unavailable", error=str(error), retry_in_s=round(delay_s, 2))

        async for attempt in forever(backoff, SinkUnavailable, on_retry=on_retry):
            with attempt:
                try:
                    await self._be_member()
                except SinkRefused as error:
                    if self.roles is None:
                        raise
                    # Rights were taken away while running. The last roles stay.
                    raise SinkUnavailable(str(error)) from error

    async def _be_member(self) -> None:
        """Be a member until Kafka fails. Raises SinkUnavailable then."""
        name, group = self._cluster.instance_id, self._cluster.group
        async with GroupMember(self._options, group, name, self) as member:
            loop = asyncio.get_running_loop()
            warn_at_s = loop.time() + JOIN_TIMEOUT_S
            while True:
                await member.wait(LOOK_S)
                if self._must_rejoin:
                    self._must_rejoin = False
                    member.rejoin()
                if self.roles is None and loop.time() > warn_at_s:
                    warn_at_s += 60
                    log.warning(
                        "group_waiting",
                        group=group,
                        consequence="this bridge publishes nothing until it knows its shards",
                        remedy="check that the brokers have __consumer_offsets",
                    )

    def describe(self) -> bytes:
        """Return what this bridge does now."""
        cluster = self._cluster
        owned, watched = tuple(self._owned()), tuple(self._watched())
        shares = (cluster.shards, cluster.standby, owned, watched)
        return _encode(Member(self._name, self._topic, *shares, self._attempt))

    def share_out(self, members: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the roles of each member. One that is not understood gets none."""
        read = {each: decode_ours(_decode_member, said) for each, said in members.items()}
        known = {each: member for each, member in read.items() if member}
        return {each: _encode(roles) for each, roles in share_out(known).items()}

    def take(self, share: bytes, generation: int) -> None:
        """Take the roles of this bridge."""
        roles = decode_ours(_decode_roles, share)
        if roles is None:
            return  # the leader has not understood us
        if roles.shards != self._cluster.shards:
            # An earlier process of this name had another number of shards.
            self._attempt += 1
            self._must_rejoin = True
            return
        self.roles, self.generation = roles, generation
        self.changed.set()
