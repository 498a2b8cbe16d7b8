"""Events from the Kafka topics: all of them, in order per symbol, and checked.

Without a group, reading commits nothing and leaves no trace. To continue after a restart, store
`KafkaFeed.position` with your results, and pass it as `start`. The processes of a group share the
work, and continue where the group was.
"""

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from threading import Lock
from typing import Literal, Self

from aiokafka import TopicPartition

from bridge import settings
from bridge.client.continuity import CONTIGUOUS, Continuity, Finding, ids_of
from bridge.client.events import AnyEvent, ForeignMessage, Gap, UnreadableEvent, decode_event
from bridge.client.feed import Feed
from bridge.client.group import GroupConsumer
from bridge.client.kafka_consumer import Consumer, Fetched, Offsets, Record, name_of
from bridge.client.message_types import Names, check_message_types, check_symbols
from bridge.client.reconnect import until_open
from bridge.client.start import FromId, Start, check_start, check_start_of_group
from bridge.core.model.events import GAP
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.errors import SinkUnavailable, TickbridgeError

Check = Literal["report", "raise", "off"]
"""What a feed does if ids are missing without a gap event, or come twice: it logs that and keeps it
in `findings`, it raises ContinuityBroken, or it does not look.
"""
# Of further findings only the number is kept.
FINDINGS_MAX = 1000

log = logging.getLogger(__name__)


class ContinuityBroken(TickbridgeError):
    """Ids are missing without a gap event, or came twice. Reading can go on after it."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("; ".join(map(str, findings)))


class KafkaFeed(Feed):
    """Reads events. An async context manager: after entry it has a position in every partition, and
    misses no record from then on. If Kafka goes away, it waits, reconnects and continues there.

        async with KafkaFeed("localhost:9092", ["trade", "gap"], start=stored) as feed:
            async for event in feed:
                ...
                stored = feed.position

    `kafka` is `host:port` (several separated by commas) or the section `kafka` of the settings.
    `message_types` are for example trade and quote; one may be given as a string, and so may one
    symbol. Without `symbols`, all symbols are read.

    The ids of trade, agg_trade and book_delta are checked while they are read (`check`). For this
    the topic of gap events is read too. Gap events are returned if `message_types` has "gap", each
    before the first event after its gap.

    The processes with the same `group` share the partitions. Each continues at the committed
    offsets, or at `start` if there are none. Offsets are committed by `commit`, at the end of the
    context if no exception ends it, and when partitions go to another process.

    Raises ValueError for an unknown message type or a wrong start, SinkRefused if the cluster
    rejects the credentials or the group, RecordsRemoved or EventRemoved if Kafka no longer has what
    was asked for, ContinuityBroken if `check` is "raise", and UnreadableEvent for an event of
    another version; reading can go on after the last two. Entry raises SinkUnavailable if the
    cluster or a topic is absent. Records that no bridge can have written are logged and passed
    over.
    """

    def __init__(  # noqa: PLR0913 - each is an option of its own
        self,
        kafka: str | settings.Kafka,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
        start: Start = "latest",
        check: Check = "report",
        group: str | None = None,
    ) -> None:
        if isinstance(kafka, str):
            kafka = settings.Kafka.model_validate({"bootstrap_servers": kafka})
        if check not in {"report", "raise", "off"}:
            raise ValueError(f"check {check!r} is not report, raise or off")
        wanted, names = check_message_types(message_types), check_symbols(symbols)
        self._check = "off" if set(CONTIGUOUS).isdisjoint(wanted) else check
        read = wanted if self._check == "off" else dict.fromkeys((*wanted, GAP))
        topics = {kind: topic_name(kafka.topic, venue, kind) for kind in read}
        check_start(start, topics.values(), wanted, names)
        if group is not None:
            check_start_of_group(group, start)
        self.findings: list[Finding] = []
        self.findings_count = 0
        self._from_id = start.id if isinstance(start, FromId) else None
        # Gap events before this time, in microseconds, are read for the check alone.
        self._since = round(start.timestamp() * 1e6) if isinstance(start, datetime) else 0
        self._keys = frozenset(name.encode() for name in names)
        self._topics = frozenset(topics[kind] for kind in wanted)
        self._gap_topic = topics.get(GAP)
        self._group = group
        self._consumer = self._consumer_of(kafka, topics, start)
        self._continuity = Continuity()
        # The partitions of a group change while another thread may read (`bridge.client.sync`).
        self._lock = Lock()
        self._offsets: Offsets = {}
        # Where the events lie that were returned last, until the next one is asked for.
        self._in_hand: Offsets = {}
        # Records that were fetched and not returned yet.
        self._fetched: deque[Record] = deque()
        # The record that was compared with all gap events before it, and the one whose findings
        # were raised: it is returned afterwards.
        self._compared: Record | None = None
        self._accepted: Record | None = None
        # The topics in which foreign records were found.
        self._passed_over: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._consumer.__aenter__()
        if self._group is None:
            self._offsets |= self._consumer.starts
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            if self._group is not None and not any(error):
                await self.commit()
        finally:
            await self._consumer.__aexit__()

    @property
    def position(self) -> dict[str, int]:
        """Return where to continue after the last event that was returned: the offset of the next
        record by `topic:partition`. It may be stored as JSON.
        """
        return {name_of(at): offset for at, offset in self._offsets.items()}

    @property
    def position_before(self) -> dict[str, int]:
        """Return the position before the last event that was returned."""
        return {name_of(at): offset for at, offset in (self._offsets | self._in_hand).items()}

    async def commit(self) -> None:
        """Commit what was returned: no process of the group gets these events again.

        If partitions have gone to another process meanwhile, their events may come again there.
        Raises RuntimeError without a group, SinkUnavailable or SinkRefused.
        """
        if not isinstance(self._consumer, GroupConsumer):
            raise RuntimeError("a feed without a group commits nothing; give `group`")  # noqa: TRY004
        await self._consumer.commit(dict(self._offsets))

    def ready(self) -> AnyEvent | None:
        """Return the next event if it has been read; None if `read_more` must come first.

        Raises ContinuityBroken and UnreadableEvent.
        """
        with self._lock:
            return self._next()

    def _next(self) -> AnyEvent | None:
        self._in_hand = {}
        while self._fetched:
            record = self._fetched.popleft()
            event = self._event(record)
            if event and not self._is_next(event) and record is not self._accepted:
                if record is not self._compared and self._continuity.findings(event):
                    self._fetched.appendleft(record)
                    return None
                self._accept(record, event)
            self._offsets[place := _place(record)] = record.offset + 1
            if event:
                self._in_hand = {place: record.offset}
                return event
        return None

    async def read_more(self) -> None:
        """Wait for records, at most QUIET_S while Kafka answers. Before an event that does not
        follow the last one, read the gap events up to their present end.
        """
        if self._fetched:
            record = self._fetched[0]
            self._queue(await self._fetch(self._consumer.fetch_gaps))
            self._compared = record
        else:
            self._queue(await self._fetch(self._consumer.fetch))

    async def batches(self) -> AsyncGenerator[list[bytes], None]:
        """Yield the record values of each fetch, byte for byte, for the requested symbols and
        message types only, without end and unchecked.
        """
        while True:
            fetched = await self._fetch(self._consumer.fetch)
            values = [r.value for records in fetched.values() for r in records if self._wanted(r)]
            self._in_hand = {at: records[0].offset for at, records in fetched.items()}
            self._offsets |= {at: records[-1].offset + 1 for at, records in fetched.items()}
            if values:
                yield values
            self._in_hand = {}

    def _consumer_of(self, kafka: settings.Kafka, topics: dict[str, str], start: Start) -> Consumer:
        if self._group is None:
            return Consumer(kafka, topics, self._keys, start)
        return GroupConsumer(
            kafka,
            topics,
            self._keys,
            start,
            group=self._group,
            on_revoked=self._revoke,
            on_assigned=self._assign,
        )

    def _revoke(self) -> Offsets:
        """Drop what was not returned, and the state of the check: the first event of a partition
        is a beginning. Return the offsets of what the caller has done with.
        """
        with self._lock:
            self._fetched.clear()
            self._continuity = Continuity()
            return self._offsets | self._in_hand

    def _assign(self, offsets: Offsets) -> Offsets:
        """Continue at these offsets, or where we were if the same partition is ours again."""
        with self._lock:
            self._offsets = {at: max(self._offsets.get(at, 0), offsets[at]) for at in offsets}
            self._in_hand = {at: self._in_hand[at] for at in self._in_hand if at in offsets}
            return dict(self._offsets)

    def _event(self, record: Record) -> AnyEvent | None:
        """Return the event of a record; None if it was not asked for."""
        if not self._wanted(record):
            return None
        try:
            event = decode_event(record.value)
        except UnreadableEvent as error:
            self._offsets[_place(record)] = record.offset + 1
            if not isinstance(error, ForeignMessage):
                raise
            self._pass_over(record, error)
            return None
        return event if self._has_begun(event) else None

    def _has_begun(self, event: AnyEvent) -> bool:
        """Return whether an event is not from before the start."""
        if isinstance(event, Gap):
            if self._from_id is not None:
                return event.last_id is not None and event.last_id >= self._from_id
            return event.received >= self._since
        if self._from_id is not None and (ids := ids_of(event)):
            if ids[1] < self._from_id:
                return False
            self._from_id = None
        return True

    def _wanted(self, record: Record) -> bool:
        return record.topic in self._topics and (not self._keys or record.key in self._keys)

    def _pass_over(self, record: Record, error: Exception) -> None:
        if record.topic not in self._passed_over:
            self._passed_over.add(record.topic)
            where = f"offset {record.offset} of {name_of(_place(record))}"
            log.warning("Foreign records are passed over, first at %s: %s", where, error)

    def _is_next(self, event: AnyEvent) -> bool:
        return self._check == "off" or self._continuity.follows(event)

    def _accept(self, record: Record, event: AnyEvent) -> None:
        """Continue with an event that does not follow the last one. Raises ContinuityBroken."""
        findings = self._continuity.findings(event)
        self._continuity.accept(event)
        self._note(findings)
        if findings and self._check == "raise":
            self._fetched.appendleft(record)
            self._accepted = record
            raise ContinuityBroken(findings)

    def _note(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.findings_count += 1
            if len(self.findings) < FINDINGS_MAX:
                self.findings.append(finding)
                log.warning("%s", finding)
            elif self.findings_count == FINDINGS_MAX + 1:
                log.warning("More than %d findings: further ones are counted only", FINDINGS_MAX)

    def _queue(self, fetched: Fetched) -> None:
        """Put records in front of those that wait, gap events first."""
        first = sorted(fetched.items(), key=lambda item: item[0].topic != self._gap_topic)
        records = [record for _, of_partition in first for record in of_partition]
        # Gap events that are read again are for the check alone.
        offsets = {at: self._offsets.get(at, 0) for at in fetched}
        self._fetched.extendleft(r for r in reversed(records) if r.offset >= offsets[_place(r)])
        if self._check != "off":
            for record in records:
                if record.topic == self._gap_topic:
                    self._announce(record)

    def _announce(self, record: Record) -> None:
        try:
            event = decode_event(record.value)
        except UnreadableEvent:
            return  # it is named when its turn comes
        if isinstance(event, Gap):
            self._continuity.announce(event)

    async def _fetch(self, fetch: Callable[[], Awaitable[Fetched]]) -> Fetched:
        """Return the next records, which may be none. Reconnect if Kafka does not answer."""
        while True:
            try:
                return await fetch()
            except SinkUnavailable as error:
                log.warning("Reading is interrupted: %s", error)
            await until_open("Kafka", self._consumer.reopen)
            log.warning("Reading continues, without a loss")


def _place(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
