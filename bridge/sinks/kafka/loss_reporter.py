"""Announces what the Kafka sink has dropped, before the records that follow in Kafka."""

from collections.abc import Callable, Iterable

import structlog

from bridge import settings
from bridge.core.delivery.open_gaps import OpenGaps
from bridge.core.model.events import Event, Gap
from bridge.core.records.record import Record, Router, priority_record
from bridge.core.sequencing.contiguous import MAX_GAP_IDS
from bridge.sinks.kafka.ack_waiters import AckWaiters
from bridge.sinks.kafka.loss_events import REFUSED, TOO_LARGE, GapReporter, Notice, refused_event
from bridge.sinks.outbox.outbox import Outbox, PartitionQueue
from bridge.telemetry import now_us

# Dropped trades are fetched again only while less than this share of the outbox is taken. At most
# this much is fetched at once, with a kilobyte for each trade.
ROOM_SHARE = 0.25

log = structlog.get_logger(__name__)


class LossReporter:
    """Makes gap and invalid events of dropped records, and puts them into the outbox.

    `progressed` is called when a loss was announced or a record was dropped.
    """

    def __init__(
        self,
        options: settings.Kafka,
        venue: str,
        outbox: Outbox,
        ack_waiters: AckWaiters,
        progressed: Callable[[], None],
    ) -> None:
        room = round(options.outbox_max_bytes * ROOM_SHARE)
        self.on_gap: Callable[[Gap], None] = lambda _gap: None
        self._gap_reporter = GapReporter(venue, min(MAX_GAP_IDS, room // 1000))
        self._max_bytes = options.batch_max_bytes
        self._venue = venue
        self._record = Router((), options.topic).record
        self._outbox = outbox
        self._ack_waiters = ack_waiters
        self._progressed = progressed

    def watch(self, notice: Notice) -> None:
        """Call `notice` for each stream that has open gaps, now and later."""
        self._gap_reporter.watch(notice)

    def reopen(self, gaps: OpenGaps) -> None:
        """Publish which gaps of the previous process were filled, and have the others repaired."""
        self.publish([*gaps.filled(), *self._gap_reporter.reopen(gaps.left())])

    def publish(self, events: Iterable[Event]) -> None:
        """Put events into the outbox that are for this sink alone."""
        for event in events:
            self._note(event)
            self._push(self._record(event))

    def announce(self) -> None:
        """Announce what was dropped, ahead of the records on disk.

        Only one announcement is in flight at a time. While Kafka accepts nothing, further losses
        are joined and announced together later.
        """
        if self._outbox.losses and not self._outbox.has_gap_in_flight():
            losses = self._outbox.losses.take()
            for event in self._gap_reporter.announce(losses, now_us()):
                self._note(event)
                self._push(priority_record(self._record(event)))
            self._ack_waiters.lost(losses)
            self._progressed()

    def drop_refused(self, queue: PartitionQueue) -> None:
        """Drop the first records of a queue that Kafka refuses for good. An invalid event replaces
        each.
        """
        while queue.records and not queue.in_doubt and (cause := self._cause(queue)):
            for record in self._outbox.drop(queue, 1, cause):
                self._log(record, cause)
                if queue.message_type != "invalid":
                    event = refused_event(self._venue, record, cause, self._max_bytes, now_us())
                    self._push(self._record(event))
            queue.refused.dropped()
            self._progressed()

    def _cause(self, queue: PartitionQueue) -> str | None:
        """Return why Kafka refuses the first record of a queue; None if it does not."""
        record = queue.records[0]
        if len(record.value) >= self._max_bytes or record is queue.limit.refused:
            return TOO_LARGE
        return REFUSED if record is queue.refused.record else None

    def _log(self, record: Record, cause: str) -> None:
        """Log a dropped record. Many are logged only when their number is a power of two."""
        route = record.route
        dropped = self._outbox.counts.dropped[route.message_type, cause]
        if dropped.bit_count() == 1:
            log.warning(
                "record_refused",
                cause=cause,
                topic=route.topic,
                symbol=route.symbol,
                id=record.identity,
                dropped=dropped,
            )

    def _note(self, event: Event) -> None:
        if isinstance(event, Gap):
            self._outbox.counts.gap_events[event.state, event.cause] += 1
            self.on_gap(event)

    def _push(self, record: Record) -> None:
        self._outbox.counts.restored[record.route.message_type] += 1
        self._outbox.push(record)
