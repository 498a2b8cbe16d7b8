"""The Kafka sink: the complete record, idempotent, with one batch in flight per partition."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter

import structlog
from aiokafka import errors as kafka_errors
from msgspec.structs import replace

from bridge import settings
from bridge.brokers.kafka_client import FAILURES, failure
from bridge.core.delivery.open_gaps import OpenGaps
from bridge.core.model.events import STATUS, Event, Gap
from bridge.core.model.shard import WHOLE, ShardId
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Record, Route, topic_name
from bridge.core.sequencing.completeness import Committed
from bridge.core.sequencing.position import MESSAGE_TYPE as POSITION
from bridge.core.sequencing.position import Position, StreamKey
from bridge.errors import Fenced, SinkRefused, SinkUnavailable, describe
from bridge.retry import Backoff, forever
from bridge.sinks.kafka import position_writer
from bridge.sinks.kafka.ack_waiters import AckWaiters
from bridge.sinks.kafka.fence import Fence
from bridge.sinks.kafka.loss_events import REFUSED, TOO_LARGE, Notice
from bridge.sinks.kafka.loss_reporter import ROOM_SHARE, LossReporter
from bridge.sinks.kafka.owner import (
    BEATS_PER_TAKEOVER,
    OWNER,
    Owner,
    Reception,
    Role,
    State,
    encode,
    this_bridge,
)
from bridge.sinks.kafka.position_writer import PositionWriter
from bridge.sinks.kafka.producer import StateTopics, open_producer
from bridge.sinks.kafka.producer_session import DeliveryState, ProducerSession
from bridge.sinks.kafka.producer_state import BATCH_TOO_LARGE, FOREIGN_RECORDS, ProducerState
from bridge.sinks.kafka.recover_positions import Written
from bridge.sinks.kafka.resting import PARTITION_UNAVAILABLE, RestingPartitions
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.sinks.outbox.outbox import Outbox
from bridge.sinks.outbox.spiller import Spiller
from bridge.sinks.outbox.spilling_outbox import SpillingOutbox
from bridge.telemetry import PENDING_MAX_S, TAKEN_OVER, SinkCounts, now_us

MAX_DELAY_S = 5.0
# The feed waits this long at a start until Kafka is there, and no other process can write to it.
FENCE_TIMEOUT_S = 10.0
ALONE = settings.Cluster()

_received = attrgetter("received")

log = structlog.get_logger(__name__)


class KafkaSink:
    """An outbox, and the task that drains it through one producer after another.

    With a `store` records wait on disk when memory is half full.
    """

    name = "kafka"
    drop_causes: tuple[str, ...] = (
        *("outbox_full", TOO_LARGE, REFUSED),
        *("spill_corrupt", TAKEN_OVER),
    )
    failure_reasons: tuple[str, ...] = (
        *("unavailable", PARTITION_UNAVAILABLE, BATCH_TOO_LARGE, FOREIGN_RECORDS),
        *("spill_full", "spill_failed", "spill_corrupt"),
    )

    def __init__(  # noqa: PLR0913 (what it connects)
        self,
        options: settings.Kafka,
        topics: Sequence[str],
        venue: str = SPOT,
        store: ChunkStore | None = None,
        cluster: settings.Cluster = ALONE,
        *,
        shard: ShardId = WHOLE,
        role: Role | None = None,
        counts: SinkCounts | None = None,
    ) -> None:
        self._role = role or Role()
        self.counts = SinkCounts() if counts is None else counts
        self.limits: Mapping[str, int] = {
            "outbox_limit_bytes": options.outbox_max_bytes,
            "spill_limit_bytes": store.limit_bytes if store else 0,
        }
        state_topics = StateTopics(
            position=topic_name(options.topic, venue, POSITION),
            status=topic_name(options.topic, venue, STATUS),
        )
        self._topics = [*topics, *state_topics]
        # Set when there may be something to send, and when something was sent or dropped.
        self._changed = asyncio.Event()
        self._progressed = asyncio.Event()
        self.outbox, self.spiller = self._make_outbox(options.outbox_max_bytes, store)
        self._ack_waiters = AckWaiters()
        self._losses = LossReporter(
            options, venue, self.outbox, self._ack_waiters, self._progressed.set
        )
        self._positions = PositionWriter(state_topics.position)
        # Owners and standbys write to the position topic. Invalid frames may have no symbol, so all
        # shards write to all partitions of their topic.
        shared = {*state_topics, topic_name(options.topic, venue, "invalid")}
        producer_state = ProducerState(self.counts, shared if cluster.has_group else ())
        self._fence = Fence(
            options,
            state_topics,
            producer_state,
            this_bridge(cluster),
            role=self._role,
            shard=shard,
            shared=shared,
            is_required=cluster.has_group,
        )
        self._reception: Reception | None = None
        self._beat_s = cluster.takeover_ms / 1000 / BEATS_PER_TAKEOVER
        self._resting = RestingPartitions(
            (self.outbox, self._positions.outbox), self.counts.failures, self._changed.set
        )
        self._state = DeliveryState(
            options=options,
            venue=venue,
            shard=shard,
            topics=self._topics,
            state_topics=state_topics,
            outbox=self.outbox,
            spiller=self.spiller,
            positions=self._positions,
            losses=self._losses,
            producer_state=producer_state,
            fence=self._fence,
            resting=self._resting,
            changed=self._changed,
        )
        self._session: ProducerSession | None = None
        # The first record of each queue at the last look, to see whether Kafka takes any.
        self._heads: list[Record] = []
        self._looked_at_s = 0.0
        self._is_slow = False
        self._was_ready = self._is_fenced = False
        self._backoff = Backoff(MAX_DELAY_S)
        self._ticking: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> bool:
        return self._session is not None

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:  # noqa: ARG002
        self.outbox.extend(records)
        self.wake()

    @property
    def owner(self) -> str:
        """Return the name of this bridge, as other bridges with the same topics see it."""
        return self._fence.us.name

    @property
    def standby(self) -> str | None:
        """Return the name of the bridge that the group lets stand by; None if there is none."""
        return self._role.other or None

    def become_owner(self, previous: Owner | None, reception: Reception) -> None:
        """Note that this bridge is the next owner, and what it receives."""
        self._fence.us = self._fence.us.after(previous)
        self._reception = reception

    def committed(self, key: StreamKey) -> Committed | None:
        """Return what Kafka has of a stream with contiguous ids; None if nothing is known of it."""
        return self._positions.committed(key)

    def push_statuses(self, records: Iterable[Record]) -> None:
        """Take the statuses of symbols. While Kafka is away only the newest of each waits."""
        self._positions.push_statuses(records)
        self.wake()

    def publish(self, events: Iterable[Event]) -> None:
        """Publish events that are for this sink alone."""
        self._losses.publish(events)
        self.wake()

    async def has_room(self) -> None:
        """Return when there is room for trades that are fetched again, and no partition rests."""
        while self._resting or not self.outbox.has_room(ROOM_SHARE):
            await self._progress()

    async def given_up(self, message_type: str, symbol: str, ids: Sequence[int]) -> set[int]:
        """Return which of these ids of a contiguous stream, pushed just now, were given up. Wait
        until Kafka has acknowledged all others. What was given up is announced by then.
        """
        waiter = self._ack_waiters.begin(StreamKey(message_type, symbol), ids)
        try:
            while waiter.left:
                await self._progress()
        finally:
            self._ack_waiters.end(waiter)
        return waiter.given_up

    def watch_losses(self, notice: Notice) -> None:
        """Call `notice` for each stream with trades that were dropped here. The trades that are
        fetched again go to `publish`.
        """
        self._losses.watch(notice)

    def watch_gaps(self, notice: Callable[[Gap], None]) -> None:
        """Call `notice` for each gap event that this sink adds to those of the pipeline."""
        self._losses.on_gap = notice

    def reopen(self, gaps: OpenGaps) -> None:
        """Publish what was filled of the gaps that the previous process has left open, and report
        the others to `watch_losses`.
        """
        self._losses.reopen(gaps)
        self.wake()

    def close(self) -> None:
        """Save the waiting records in the store, if there is one; blocks. See `records_on_disk`.

        If another bridge has taken over, remove all instead: it has them, or has announced them.
        """
        if self.spiller and self._is_fenced:
            self.spiller.clear()
        elif self.spiller:
            self._losses.announce()
            self.spiller.close()

    def note_fenced(self) -> None:
        """Note that another bridge is the owner of the topics, so that `close` removes all
        records.
        """
        self._is_fenced = True

    @property
    def records_on_disk(self) -> int:
        """Return the number of records on disk."""
        return self.spiller.records_on_disk if self.spiller else 0

    def wake(self) -> None:
        """Look for records to send."""
        self._changed.set()

    def pending(self) -> Counter[str]:
        return self.outbox.pending()

    def pending_bytes(self) -> int:
        return self.outbox.bytes

    def spill_bytes(self) -> int:
        return self.spiller.bytes if self.spiller else 0

    def buffer_share(self) -> float:
        return self.outbox.bytes / self.outbox.max_bytes

    def oldest_received(self) -> int | None:
        return self.outbox.oldest_received()

    def resume(self, positions: Iterable[Position]) -> None:
        """Continue from the positions of the previous process."""
        self._positions.resume(positions)

    async def fenced(self) -> Written | None:
        """Return when no other process can write to the topics. The first time the fence has read
        the position topic, and what was written by then is returned.

        Raises SinkUnavailable after FENCE_TIMEOUT_S.
        """
        try:
            async with asyncio.timeout(FENCE_TIMEOUT_S):
                await self._fence.raised.wait()
        except TimeoutError as error:
            servers = ", ".join(self._state.options.bootstrap_servers)
            what = f"Kafka at {servers} could not be reached within {FENCE_TIMEOUT_S:g} s"
            raise SinkUnavailable(what) from error
        return self._fence.take_written()

    def expect_topics(self, topics: Iterable[str]) -> None:
        """Let the next producer create topics that are not known yet. The present one ends."""
        if added := [topic for topic in topics if topic not in self._topics]:
            self._topics[:0] = added
            if self._session:
                self._session.fail(SinkUnavailable("Kafka: further topics are needed"))

    async def add_topics(self, topics: Iterable[str]) -> None:
        """Add topics before there are records of them. They are created now, or by the next
        producer if Kafka is away.

        Raises SinkUnavailable if Kafka has no such topic, and SinkRefused if Kafka denies it. Then
        nothing has changed.
        """
        added = [topic for topic in topics if topic not in self._topics]
        self._topics[:0] = added
        session = self._session
        if session is None or not added:
            return
        try:
            await session.add_topics(added)
        except (SinkUnavailable, SinkRefused):
            self._topics[:] = [topic for topic in self._topics if topic not in added]
            raise
        except FAILURES as error:
            log.info("kafka_topics_delayed", topics=added, error=describe(error))
            session.fail(SinkUnavailable("Kafka: no answer about further topics"))

    async def drained(self) -> None:
        """Return when no record waits, and the positions of all streams are written."""
        while len(self.outbox):
            await self._progress()
        while self._positions.has_unwritten:
            self._positions.flush()
            self.wake()
            await self._progress()

    async def release(self) -> None:
        """Tell standbys that this bridge publishes no more. Return when Kafka has it."""
        if self._beating:
            self._beating.cancel()
        if not self._session or not self._fence.owner_key:
            return
        while not self._write_owner("released"):
            await self._progress()
        while len(self._positions.outbox):
            await self._progress()

    async def run(self) -> None:
        """Connect and drain until cancelled; connect again after each failure.

        Raises Fenced if another bridge has taken over, and SinkRefused if Kafka refuses us before
        it was ever ready.
        """
        self._tick()
        self._beat()
        try:
            while True:
                await self._deliver()
        except Fenced:
            self.note_fenced()
            raise
        finally:
            for timer in filter(None, (self._ticking, self._beating)):
                timer.cancel()

    async def _progress(self) -> None:
        """Wait until something is sent or dropped."""
        self._progressed.clear()
        await self._progressed.wait()

    def _make_outbox(
        self, max_bytes: int, store: ChunkStore | None
    ) -> tuple[Outbox, Spiller | None]:
        if store is None:
            return Outbox(max_bytes, self.counts), None
        outbox = SpillingOutbox(max_bytes, self.counts)
        return outbox, Spiller(outbox, store, self.counts, self._on_moved)

    def _on_moved(self) -> None:
        """Look again: records came back from the disk, or were lost there."""
        self.wake()
        self._progressed.set()

    def _tick(self) -> None:
        """Write the changed positions every few seconds, and look whether Kafka is slow."""
        self._positions.flush()
        self.wake()
        self._warn_if_slow()
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_later(position_writer.INTERVAL_S, self._tick)

    def _beat(self) -> None:
        """Write a heartbeat, again and again."""
        is_cut = self._reception is not None and self._reception.is_cut
        self._write_owner("cut" if is_cut else "live")
        loop = asyncio.get_running_loop()
        self._beating = loop.call_later(self._beat_s, self._beat)

    def _write_owner(self, state: State) -> bool:
        """Write that this bridge is the owner, if its fence is raised. Return whether it is on its
        way.
        """
        key = self._fence.owner_key
        if key is None:
            return False
        now = now_us()
        route = Route(OWNER, "", self._positions.topic, key, "", ())
        owner = replace(self._fence.us, state=state, generation=self._role.generation)
        if reception := self._reception:
            owner = self._describe(owner, reception, now)
        record = Record(route, now // 1000, now, encode(owner))
        is_taken = self._positions.push_owner(record)
        self.wake()
        return is_taken

    def _describe(self, owner: Owner, reception: Reception, now: int) -> Owner:
        """Add to a heartbeat what this bridge receives, and what of it is in Kafka."""
        silent_s = reception.silent_s()
        lag_s = max(reception.lag_s(), (now - (self.oldest_received() or now)) / 1e6)
        # Of what is lost or on disk it is not known when it came.
        is_known = math.isfinite(lag_s) and not self.outbox.losses
        if self.spiller:
            is_known = is_known and self.spiller.is_empty
        return replace(
            owner,
            silent_s=0.0 if math.isinf(silent_s) else round(silent_s, 3),
            streams=reception.streams,
            whole_since=reception.whole_since if is_known else 0,
            lag_s=round(lag_s, 3) if is_known else 0.0,
        )

    def _warn_if_slow(self) -> None:
        """Log once that a connected Kafka lets events wait: the same ones as PENDING_MAX_S ago."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._looked_at_s + PENDING_MAX_S:
            return
        before, self._heads, self._looked_at_s = self._heads, self.outbox.heads(), now_s
        stuck = [record for record in self._heads if record in before]
        was_slow, self._is_slow = self._is_slow, bool(stuck)
        if self._is_slow and not was_slow and self._session:
            log.warning(
                "kafka_slow",
                topics=sorted({record.route.topic for record in stuck}),
                waiting=len(self.outbox),
                consequence="the bridge is not ready until Kafka has taken these events",
            )

    async def _deliver(self) -> None:
        """Run one session that lives to its end, after as many as it takes."""
        async for attempt in forever(self._backoff, SinkUnavailable, on_retry=self._on_retry):
            with attempt:
                try:
                    await self._run_session()
                except SinkRefused as error:
                    if not self._was_ready:
                        raise
                    # Rights were taken away while running. Redis continues, and we try again.
                    raise SinkUnavailable(str(error)) from error

    async def _run_session(self) -> None:
        """Run one producer until its first failure, or until the fence is to be renewed."""
        await self._fence.raise_around(self._topics)
        producer = await open_producer(self._state.options, self._state.producer_state)
        session = ProducerSession(self._state, producer, self._on_published)
        try:
            await session.recover()
            self._session, self._heads = session, []
            self._was_ready = True
            log.info("kafka_connected", topics=len(session.partitions))
            await session.drain()
            self._fence.renew()
        except FAILURES as error:
            if isinstance(error, kafka_errors.ProducerFenced):
                await self._fence.check_owner()
            raise failure(error) from error
        finally:
            self._session = None
            await session.close()

    def _on_published(self, records: Sequence[Record]) -> None:
        """Count acknowledged records, and how long it took since their frames arrived."""
        if records:
            now = now_us()
            if self._ack_waiters:
                self._ack_waiters.acknowledged(records)
            # Records of one read share their arrival.
            for received, count in Counter(map(_received, records)).items():
                self.counts.latency.observe((now - received) / 1e6, count)
            self._backoff.worked()
        self._progressed.set()

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        self.counts.failures["unavailable"] += 1
        # Kafka answers. The next attempt finds out who has opened the transactional id.
        is_fenced = isinstance(error.__cause__, kafka_errors.ProducerFenced)
        if self._backoff.should_log(error) and not is_fenced:
            log.warning(
                "kafka_unavailable",
                error=str(error),
                retry_in_s=round(delay_s, 2),
                waiting=len(self.outbox),
            )
