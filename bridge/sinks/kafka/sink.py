"""The Kafka sink: the complete record. Idempotent, one batch in flight a partition.

A producer is disposable. One refused batch makes every later one of its partition fail, and one
that lost its brokers may never answer: at the first failure, or after too long without an
acknowledgement, it is thrown away. The next one takes over its identity, takes out of the outbox
what has committed after all, and first sends again what else was on its way, under the same
numbers: what the brokers have already, they drop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from bridge import settings
from bridge.brokers.kafka_client import FAILURES, failure
from bridge.core.delivery.open_gaps import OpenGaps
from bridge.core.model.events import Event
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Record, Route, Router, priority_record
from bridge.core.sequencing.contiguous import MAX_GAP_IDS
from bridge.core.sequencing.position import Position
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.retry import Backoff, check_cancelled, forever
from bridge.sinks.batch_pacer import BatchPacer
from bridge.sinks.kafka import position_writer, recover_spill
from bridge.sinks.kafka.ack_waiters import AckWaiters
from bridge.sinks.kafka.batch_sender import BatchSender
from bridge.sinks.kafka.loss_events import TOO_LARGE, GapReporter, Notice, too_large_event
from bridge.sinks.kafka.position_writer import PositionWriter
from bridge.sinks.kafka.producer import discard, ensure_topics, open_producer
from bridge.sinks.kafka.producer_state import FOREIGN_RECORDS, ProducerState
from bridge.sinks.kafka.recover_batches import find_committed
from bridge.sinks.kafka.recover_positions import read_start
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.sinks.outbox.outbox import Outbox, PartitionQueue
from bridge.sinks.outbox.spiller import Spiller
from bridge.telemetry import SinkCounts

MAX_DELAY_S = 5.0
# At 5,000 events a second the least rest takes the broker from 47 % of a core to 33, us from 63 to
# 53, the median at a consumer from 1.6 to 3.0 ms and the 99th percentile from 15 to 10.
LEAST_REST_S, REST_PER_RECORD_S, MAX_REST_S = 0.003, 100e-6, 0.005
# Of the outbox's bound: trades that were given up are brought back only while it is emptier, each
# time no more than this at a kilobyte each.
ROOM_SHARE = 0.25

_received = attrgetter("received")

log = structlog.get_logger(__name__)


class KafkaSink:
    """An outbox, and the task that empties it into one producer after another."""

    name = "kafka"
    drop_causes: tuple[str, ...] = ("outbox_full", TOO_LARGE, "spill_corrupt")
    failure_reasons: tuple[str, ...] = (
        *("unavailable", FOREIGN_RECORDS),
        *("spill_full", "spill_failed", "spill_corrupt"),
    )

    def __init__(
        self,
        options: settings.Kafka,
        topics: Sequence[str],
        position_topic: str,
        venue: str = SPOT,
        spill: ChunkStore | None = None,
    ) -> None:
        self.counts = SinkCounts()
        self._ack_waiters = AckWaiters()
        self._changed = asyncio.Event()
        self._emptied = asyncio.Event()
        self.outbox = Outbox(options.outbox_max_bytes, self.counts)
        self.spiller = Spiller(self.outbox, spill, self.counts, self._moved) if spill else None
        self._venue = venue
        room = round(options.outbox_max_bytes * ROOM_SHARE)
        self._gap_reporter = GapReporter(venue, min(MAX_GAP_IDS, room // 1000))
        self._record = Router((), options.topic).record
        self._options = options
        self._topics = [*topics, position_topic]
        self._partitions: dict[str, list[int]] = {}
        self._producer: AIOKafkaProducer | None = None
        self._positions = PositionWriter(position_topic)
        self._producer_state = ProducerState(self.counts.failures)
        self._ready = False
        self._was_ready = False
        self._backoff = Backoff(MAX_DELAY_S)

    @property
    def ready(self) -> bool:
        return self._ready

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:  # noqa: ARG002
        self.outbox.extend(records)
        self.wake()

    def publish(self, events: Iterable[Event]) -> None:
        """Take events that are for this sink alone."""
        for event in events:
            self._push_own(self._record(event))
        self.wake()

    async def has_room(self) -> None:
        """Return when there is room for events that are brought back."""
        while not self.outbox.has_room(ROOM_SHARE):
            self._emptied.clear()
            await self._emptied.wait()

    async def given_up(self, message_type: str, symbol: str, ids: Sequence[int]) -> set[int]:
        """Which of these ids of a contiguous stream, pushed just now, were given up: returns when
        all others are acknowledged. What is given up is announced by then.
        """
        wait = self._ack_waiters.begin((message_type, symbol), ids)
        try:
            while wait.left:
                self._emptied.clear()
                await self._emptied.wait()
        finally:
            self._ack_waiters.end(wait)
        return wait.given_up

    def watch_losses(self, notice: Notice) -> None:
        """Have trades that were given up here seen to: what is brought goes to `publish`."""
        self._gap_reporter.watch(notice)

    def reopen(self, gaps: OpenGaps) -> None:
        """Say what has been brought of the gaps that the process before this one has left open, and
        have the rest seen to, as `watch_losses` has it.
        """
        self.publish([*gaps.filled(), *self._gap_reporter.reopen(gaps.left())])

    def close(self) -> None:
        """At the end, save what waits; blocks. Whether that was possible, `kept` says."""
        if self.spiller:
            self._announce()
            self.spiller.close()

    @property
    def kept(self) -> int:
        """Records on disk."""
        return self.spiller.on_disk if self.spiller else 0

    def wake(self) -> None:
        self._changed.set()

    def pending(self) -> Counter[str]:
        return self.outbox.pending()

    def pending_bytes(self) -> int:
        return self.outbox.bytes

    def oldest_received(self) -> int | None:
        return self.outbox.oldest_received()

    def resume(self, positions: Iterable[Position]) -> None:
        """Take over where the process before this one has stopped."""
        self._positions.resume(positions)

    async def add_topics(self, topics: Iterable[str]) -> None:
        """Have further topics, before there are records of them. Connected, they are made now; with
        Kafka away by the next producer, as at a start.

        Raises SinkUnavailable where Kafka has none of them, and SinkRefused where it denies them:
        then everything is as it was.
        """
        added = [topic for topic in topics if topic not in self._topics]
        self._topics = [*added, *self._topics]
        if self._producer is None or not added:
            return
        try:
            self._partitions |= await self._ensure(self._producer, added)
        except (SinkUnavailable, SinkRefused):
            self._topics = [topic for topic in self._topics if topic not in added]
            raise
        except FAILURES as error:
            log.info("kafka_topics_delayed", topics=added, error=str(error))
            self._producer = None
            self.wake()

    async def drained(self) -> None:
        """When nothing waits any more; where the streams stand is then written too."""
        while len(self.outbox):
            self._emptied.clear()
            await self._emptied.wait()
        while self._positions.are_behind:
            self._positions.flush()
            self.wake()
            self._emptied.clear()
            await self._emptied.wait()

    async def run(self) -> None:
        """Connect, drain, and do both again after a failure, for ever."""
        self._tick()
        try:
            await self._deliver()
        finally:
            self._ticking.cancel()

    def _moved(self) -> None:
        """The disk has given something back, or lost it."""
        self.wake()
        self._emptied.set()

    def _tick(self) -> None:
        """Write what has changed of the positions, every few seconds."""
        self._positions.flush()
        self.wake()
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_later(position_writer.INTERVAL_S, self._tick)

    async def _deliver(self) -> None:
        async for attempt in forever(self._backoff, SinkUnavailable, on_retry=self._on_retry):
            with attempt:
                try:
                    await self._session()
                except SinkRefused as error:
                    if not self._was_ready:
                        raise
                    # Rights taken away under way: Redis goes on, and we try again.
                    raise SinkUnavailable(str(error)) from error

    async def _session(self) -> None:
        """One producer's life, ended by its first failure."""
        producer = await open_producer(self._options, self._producer_state)
        sender = BatchSender(producer, self._options, self._producer_state, self._changed)
        try:
            self._partitions = await self._ensure(producer, self._topics)
            check_cancelled()
            await self._take_out_restored()
            await self._take_out_committed()
            self._producer_state.number(producer)
            await self._send_again(sender)
            while added := [topic for topic in self._topics if topic not in self._partitions]:
                self._partitions |= await self._ensure(producer, added)
            self._producer = producer
            self.outbox.assign(
                # Of a topic not known yet all waits in one queue, for the next producer.
                lambda route: _partition(route, self._partitions.get(route.topic, [0]))
            )
            self._ready = self._was_ready = True
            log.info("kafka_connected", topics=len(self._partitions))
            await self._drain(sender)
        except FAILURES as error:
            raise failure(error) from error
        finally:
            self._ready = False
            self._producer = None
            sender.close()
            self.outbox.release()
            self._positions.outbox.release()
            await discard(producer)

    async def _ensure(self, producer: AIOKafkaProducer, topics: list[str]) -> dict[str, list[int]]:
        try:
            return await ensure_topics(producer, self._options, topics, self._topics[-1])
        except FAILURES as error:
            if isinstance(reason := failure(error), SinkRefused):
                raise reason from error
            raise

    async def _take_out_restored(self) -> None:
        """See what has committed of what the last process may have sent."""
        if self.spiller is None or (restored := self.spiller.restored()) is None:
            return
        await recover_spill.find_committed(self._options, restored)
        message_types = {message_type for message_type, _ in self.spiller.positions}
        positions = await read_start(self._options, self._venue, message_types)
        self.spiller.settle(restored, positions)
        self._emptied.set()

    async def _take_out_committed(self) -> None:
        """See what has committed of the batches that the last producer had on its way.

        The tails tell it even where the brokers have forgotten the numbers: at a restart they do,
        if a batch's records are a day old. The numbers keep out what lands after that.
        """
        if queues := self.outbox.in_doubt():
            committed = await find_committed(self._options, self._producer_state, queues)
            for queue, offsets in zip(queues, committed, strict=True):
                if offsets:
                    queue.in_flight = len(offsets)
                    self._producer_state.found(
                        TopicPartition(queue.topic, queue.partition), len(offsets)
                    )
                    self._published(queue, offsets)
        if not self._producer_state.is_continued:
            self.outbox.clear_in_doubt()
            self._positions.outbox.clear_in_doubt()
            self._producer_state.is_continued = True

    async def _send_again(self, sender: BatchSender) -> None:
        """Deliver the other batches before anything else, each as it was."""
        self._changed.clear()
        for queue in self.outbox.in_doubt():
            await sender.send(queue, self._published)
        for queue in self._positions.outbox.in_doubt():
            await sender.send(queue, self._positions_written)
        while self.outbox.in_doubt() or self._positions.outbox.in_doubt():
            await sender.wait()
            self._changed.clear()

    async def _drain(self, sender: BatchSender) -> None:
        """Send whatever is idle, wait for a push or an acknowledgement, and again."""
        pacer = BatchPacer(LEAST_REST_S, REST_PER_RECORD_S, MAX_REST_S)
        while True:
            check_cancelled()
            await pacer.rest()
            if self._producer is None:
                raise SinkUnavailable("Kafka: no answer about further topics")
            self._changed.clear()
            for queue in self.outbox.idle():
                self._drop_too_large(queue)
            self._announce()
            sent, left = 0, False
            for queue in self.outbox.sendable():
                left |= not await sender.send(queue, self._published)
                sent += queue.in_flight
            if sent and not left:
                pacer.sent(sent)
            for queue in self._positions.outbox.idle():
                await sender.send(queue, self._positions_written)
            await sender.wait()

    def _drop_too_large(self, queue: PartitionQueue) -> None:
        """Give up what the broker will never take; an invalid event goes in its place."""
        max_bytes = self._options.batch_max_bytes
        if not (too_large := _too_large(queue, max_bytes)):
            return
        now = time.time_ns() // 1000
        for record in self.outbox.drop(queue, too_large, TOO_LARGE):
            log.warning(
                "record_too_large",
                topic=queue.topic,
                symbol=record.route.symbol,
                id=record.identity,
            )
            if queue.message_type != "invalid":
                self._push_own(self._record(too_large_event(self._venue, record, max_bytes, now)))
        self._emptied.set()

    def _announce(self) -> None:
        """Say what was given up, before what comes behind it, and ahead of what is on disk.

        One after the other: while Kafka takes nothing, the losses grow together instead of each
        being told apart.
        """
        if self.outbox.losses and not self.outbox.has_gap_in_flight():
            losses = self.outbox.losses.take()
            for event in self._gap_reporter.announce(losses, time.time_ns() // 1000):
                self._push_own(priority_record(self._record(event)))
            self._ack_waiters.lost(losses)
            self._emptied.set()

    def _push_own(self, record: Record) -> None:
        self.counts.restored[record.route.message_type] += 1
        self.outbox.push(record)

    def _published(self, queue: PartitionQueue, offsets: Sequence[int]) -> None:
        """Count what a broker has acknowledged, and how long it took since the frame arrived."""
        now = time.time_ns() // 1000
        published = self.outbox.acknowledge(queue)
        self._positions.published(queue, published, offsets)
        if self._ack_waiters:
            self._ack_waiters.published(published)
        # Records of one read share their arrival.
        for received, count in Counter(map(_received, published)).items():
            self.counts.latency.observe((now - received) / 1e6, count)
        self._backoff.worked()
        self._emptied.set()

    def _positions_written(self, queue: PartitionQueue, _offsets: Sequence[int]) -> None:
        self._positions.outbox.acknowledge(queue)
        self._emptied.set()

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        self.counts.failures["unavailable"] += 1
        waiting = len(self.outbox)
        log.warning(
            "kafka_unavailable", error=str(error), retry_in_s=round(delay_s, 2), waiting=waiting
        )


def _too_large(queue: PartitionQueue, max_bytes: int) -> int:
    """How many of a queue's first records fit into no batch."""
    count = 0
    for record in queue.records:
        if len(record.value) < max_bytes and record is not queue.limit.refused:
            break
        count += 1
    return count


def _partition(route: Route, partitions: list[int]) -> int:
    """The Java client's choice, so that every language finds a symbol in the same place."""
    partition: int = DefaultPartitioner()(route.key, partitions, partitions)
    return partition
