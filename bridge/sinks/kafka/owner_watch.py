"""Reads the heartbeats of the owner of a shard, until this bridge may take over.

If the number of shards has changed, a shard may have several owners: see `Owners`.

Only the arrival of a heartbeat counts, by the clock of this machine: the clocks may differ. A
heartbeat is missing only while Kafka answers. If it does not, Kafka has failed, and not the owner.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar, Literal

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import Reader, partitions_of_topics, reading_failure
from bridge.brokers.kafka_reader import LOOK_MS, RETRY_BACKOFF_MS
from bridge.core.model.shard import WHOLE, ShardId
from bridge.errors import Fenced, SinkUnavailable
from bridge.retry import Backoff, forever
from bridge.sinks.kafka.owner import (
    BEATS_PER_TAKEOVER,
    Owner,
    Owners,
    Reception,
    Role,
    position_topic,
)
from bridge.telemetry import now_us

MAX_DELAY_S = 1.0
# Two bridges get the same frame within this time.
APART_S = 1.0
# A bridge receives all streams for `cluster.takeover_ms` before it replaces an owner that is alive,
# and so many times longer if it cannot prove that no event is missed.
PATIENCE = 3
# Clocks that are right differ by less. Kafka may delay some heartbeats, but not all of so many.
CLOCKS_APART_S = 1.0
CLOCK_BEATS = 8

# Why this bridge takes over. none: there was no owner. silent: its heartbeats are missing.
# assigned: the group wants this bridge to be the owner.
Reason = Literal["none", "released", "silent", "cut", "foreign", "assigned"]

log = structlog.get_logger(__name__)


class _Watched:
    """What is known of one owner: when it was last heard, by the event loop's clock, and since when
    it does not receive all streams.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.heard_s = 0.0
        self.cut_since_s: float | None = None
        # The last two heartbeats were written after these times, by the clock of this machine. An
        # owner makes a heartbeat when Kafka has the one before it.
        self._written_after: deque[int | None] = deque((None, None), maxlen=2)
        # By how much its clock was ahead at the last heartbeats, less what they took to arrive.
        self._ahead_s: deque[float] = deque(maxlen=CLOCK_BEATS)
        self._has_warned = False

    def see(self, owner: Owner) -> None:
        """Take its last record. It may be another bridge by now."""
        if not owner.is_same(self.owner):
            self.cut_since_s = None
            self._written_after.extend((None, None))
            self._ahead_s.clear()
            self._has_warned = False
        self.owner = owner

    def hear(self, now_s: float, written_after: int | None, *, is_cut: bool) -> None:
        """Note that the last record is a heartbeat of just now. It was written after a time, in
        microseconds, if that is known.
        """
        self.heard_s = now_s
        # The record that names a new owner is no heartbeat: others may be under way.
        self._written_after.append(written_after if self.owner.whole_since else None)
        self.cut_since_s = (self.cut_since_s or now_s) if is_cut else None

    def whole_since(self, streams: str, received_since: int) -> int | None:
        """Return since when no event of these streams was missed, in microseconds, if this bridge
        has received them since a time. None if some may be missing.
        """
        owner, made_after = self.owner, self._written_after[0]
        if owner.state == "cut" or not owner.whole_since or owner.streams != streams:
            return None
        if made_after is None or made_after - (owner.lag_s + APART_S) * 1e6 < received_since:
            return None
        return owner.whole_since

    def compare_clocks(self, ahead_s: float) -> None:
        """Warn once if the clock of the owner and ours are far apart."""
        self._ahead_s.append(ahead_s)
        least_s = min(self._ahead_s, key=abs)
        is_known = len(self._ahead_s) == CLOCK_BEATS
        if is_known and abs(least_s) > CLOCKS_APART_S and not self._has_warned:
            self._has_warned = True
            log.warning(
                "clocks_apart",
                owner=str(self.owner),
                owner_ahead_s=round(least_s, 1),
                remedy="set the clocks of both machines by a time server",
            )


class OwnerWatch:
    """Waits until a shard has no owner, or one that this bridge may replace.

    `is_reading` is false while Kafka does not answer. This bridge stands by since `standing_since`,
    in microseconds; 0 before that. `role` is what the group wants of this bridge. If `reception` is
    whole, it may replace an owner that does not receive all streams, or one that the group has
    replaced. With `is_patient` an owner of another group is replaced only if it is silent. With
    `has_records` this bridge has records of an earlier process on disk: an owner that is alive has
    published or announced them.
    """

    def __init__(  # noqa: PLR0913 (what it needs to know)
        self,
        options: settings.Kafka,
        cluster: settings.Cluster,
        *,
        shard: ShardId = WHOLE,
        role: Role | None = None,
        reception: Reception,
        is_patient: bool,
        has_records: bool,
    ) -> None:
        self.is_reading = False
        self.standing_since = 0
        # Since when this bridge receives all streams while it stands by, in microseconds.
        self._whole_since: int | None = None
        self._options = options
        self._cluster = cluster
        self.topic = position_topic(options)
        self._owners = Owners(options, self.topic, shard)
        self.transactional_id = self._owners.id
        # By transactional id.
        self._watched: dict[str, _Watched] = {}
        self._role = role or Role()
        self._reception, self._is_patient = reception, is_patient
        # Whether the owner has had frames of late, and this bridge has not.
        self._is_behind = False
        self._has_records = has_records
        self._takeover_s = cluster.takeover_ms / 1000

    @property
    def owner(self) -> Owner | None:
        """Return the owner that was last heard of, if there is one."""
        present = self._present()
        return present[-1].owner if present else None

    @property
    def is_settled(self) -> bool:
        """Return whether this bridge has received all streams for long enough to replace an owner
        that is alive.
        """
        if self._whole_since is None:
            return False
        least_s = self._takeover_s
        if self.missed_nothing_since() is None:
            least_s *= PATIENCE
        return now_us() - self._whole_since >= least_s * 1e6

    def missed_nothing_since(self) -> int | None:
        """Return since when this bridge and those before it have together missed no event of the
        streams, in microseconds. None if some may be missing.
        """
        present, us = self._present(), self._reception
        if len(present) != 1 or self._whole_since is None:
            return None
        received_since = max(self._whole_since, us.whole_since)
        return present[0].whole_since(us.streams, received_since)

    async def until_free(self) -> Reason:
        """Return when this bridge may take over, and why.

        Raises Fenced if another bridge is the owner, and the settings refuse that, or this bridge
        has records on disk. Raises SinkRefused if Kafka denies reading.
        """
        backoff = Backoff(MAX_DELAY_S)

        def on_retry(error: Exception, delay_s: float) -> None:
            self.is_reading = False
            if backoff.should_log(error):
                log.warning("owner_watch_waiting", error=str(error), retry_in_s=round(delay_s, 2))

        async for attempt in forever(backoff, SinkUnavailable, on_retry=on_retry):
            with attempt:
                while (reason := await self._watch(backoff)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(self._takeover_s)
                return reason
        raise AssertionError("forever has no end")

    async def _watch(self, backoff: Backoff) -> Reason | None:
        """Watch until Kafka fails. Raises SinkUnavailable then. Return None if the first owner has
        not created the topic yet.
        """
        async with _BeatReader(self._options, self.topic) as reader:
            async for record in reader.read_written():
                self._see(record)
            self.is_reading = True
            backoff.worked()
            if reason := self._at_start():
                return reason
            if not reader.is_there:
                return None
            owner = str(self.owner) if self.owner else None
            log.info("standing_by", owner=owner, group=self._cluster.group)
            self.standing_since = self.standing_since or now_us()
            return await self._follow(reader)

    def _at_start(self) -> Reason | None:
        """Return why the shard is free by the last records; None if that takes a wait. A standby
        leaves it to the owner that the group wants, who may start at the same moment.
        """
        if self._role.kind != "owner":
            return None
        return self._common([self._reason_at_start(each.owner) for each in self._present()])

    def _reason_at_start(self, owner: Owner) -> Reason | None:
        if owner.state == "released":
            return "released"
        may_wait = self._is_patient or self._cluster.if_owned == "refuse"
        return None if may_wait or self._stands_by_for(owner) else "foreign"

    async def _follow(self, reader: "_BeatReader") -> Reason:
        """Take heartbeats until one of them, or their absence, makes the shard free."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._whole_since = read_to = None
        while True:
            for record in await reader.next(self._takeover_s / BEATS_PER_TAKEOVER):
                if watched := self._see(record):
                    self._hear(watched, loop.time(), read_to)
                    watched.compare_clocks(record.timestamp / 1000 - now_us() / 1e6)
            is_whole = not (self._reception.is_cut or self._is_behind)
            self._whole_since = (self._whole_since or now_us()) if is_whole else None
            asked, asked_s, end = now_us(), loop.time(), await reader.end()
            if await reader.place() < end:
                continue  # other shards write there too, so heartbeats may be unread
            read_to = asked
            present = self._present()
            reasons = [self._reason(each, began_s, asked_s) for each in present]
            is_late = asked_s - began_s >= self._takeover_s
            if (present or is_late) and (reason := self._common(reasons)):
                return reason
            if self.is_settled and self._is_assigned():
                return "assigned"

    def _see(self, record: "ConsumerRecord[bytes, bytes]") -> _Watched | None:
        """Take a record of the position topic. Return the owner that it names, if it does."""
        name = self._owners.see(record.key, record.value)
        if name is None:
            return None
        owner = self._owners.present()[name]
        watched = self._watched.pop(name, None) or _Watched(owner)
        watched.see(owner)
        self._watched[name] = watched
        return watched

    def _hear(self, watched: _Watched, now_s: float, written_after: int | None) -> None:
        """Take a record that was written just now, after a time in microseconds, if it is known."""
        # A connection that is open may be dead.
        owner, us = watched.owner, self._reception
        self._is_behind = us.silent_s() > owner.silent_s + APART_S
        is_behind = owner.silent_s > us.silent_s(has_frames=True) + APART_S
        watched.hear(now_s, written_after, is_cut=owner.state == "cut" or is_behind)
        is_refused = self._cluster.if_owned == "refuse" and not self._stands_by_for(owner)
        if owner.state != "released" and (is_refused or self._has_records):
            raise Fenced(str(owner), is_refused=is_refused)

    def _present(self) -> list[_Watched]:
        """Return the owners, the one that was heard of last at the end."""
        present = self._owners.present()
        return [watched for name, watched in self._watched.items() if name in present]

    def _reason(self, watched: _Watched, began_s: float, read_s: float) -> Reason | None:
        """Return why an owner may be replaced, if it may. All its heartbeats from `began_s` to
        `read_s` were heard.
        """
        is_old = watched.heard_s == 0.0 and read_s - began_s < self._takeover_s
        if watched.owner.state == "released":
            return None if is_old and self._role.kind != "owner" else "released"
        if read_s - max(began_s, watched.heard_s) >= self._takeover_s:
            return "silent"
        cut_since_s = watched.cut_since_s
        is_cut = cut_since_s is not None and read_s - cut_since_s >= self._takeover_s
        return "cut" if is_cut and not self._reception.is_cut else None

    def _common(self, reasons: Sequence[Reason | None]) -> Reason | None:
        """Return why the shard is free, if each of its owners may be replaced."""
        if None in reasons:
            return None
        if not reasons:
            return "none"
        return next((each for each in reasons if each != "released"), "released")

    def _is_assigned(self) -> bool:
        """Return whether the group wants this bridge in the place of the present owner. An owner
        that knows of a later generation may have been wanted after this bridge.
        """
        present = self._owners.present()
        alive = {name: owner for name, owner in present.items() if owner.state != "released"}
        owner = alive.get(self._owners.id)
        if self._role.kind != "owner" or self._role.generation < 0:
            return False
        return (
            owner is not None
            and len(alive) == 1
            and self._stands_by_for(owner)
            and owner.generation <= self._role.generation
        )

    def _stands_by_for(self, owner: Owner) -> bool:
        return self._cluster.has_group and owner.group == self._cluster.group


class _BeatReader(Reader):
    """Reads the position topic, and what is written to it from then on."""

    consumer_options: ClassVar = {
        # No reset: a topic that was created again is read from its beginning, by another reader.
        "auto_offset_reset": "none",
        "retry_backoff_ms": RETRY_BACKOFF_MS,
    }

    def __init__(self, options: settings.Kafka, topic: str) -> None:
        super().__init__(options)
        self._place = TopicPartition(topic, 0)

    async def _open(self) -> None:
        await self._consumer.start()
        self.is_there = self._place.topic in await partitions_of_topics(self._options)
        if self.is_there:
            self._consumer.assign([self._place])

    async def read_written(self) -> "AsyncGenerator[ConsumerRecord[bytes, bytes], None]":
        """Yield all records up to now; none if the topic does not exist."""
        if not self.is_there:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                begins = await self._consumer.beginning_offsets([self._place])
                self._consumer.seek(self._place, begins[self._place])
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
        end = await self.end()
        while await self.place() < end:
            for record in await self.next(LOOK_MS / 1000):
                yield record

    async def next(self, timeout_s: float) -> "list[ConsumerRecord[bytes, bytes]]":
        """Return the next records; none if none come in time. Raises SinkUnavailable."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000))
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
        return [record for records in fetched.values() for record in records]

    async def end(self) -> int:
        """Return the offset after the last record. Raises SinkUnavailable if Kafka does not
        answer.
        """
        return (await self.ends([self._place]))[self._place]

    async def place(self) -> int:
        """Return the offset after the last record that was read. Raises SinkUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._consumer.position(self._place)  # type: ignore[no-any-return]
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
