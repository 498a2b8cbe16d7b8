"""Events from the Kafka topics: all of them, in order per symbol, and checked.

Reading uses no consumer group and commits nothing, so it leaves no trace. To continue after a
restart, store `KafkaFeed.position` with your results, and pass it as `start`. To share the work
between processes, use a group of your Kafka client and `decode_event`.
"""

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Literal, Self

from aiokafka import TopicPartition

from bridge import settings
from bridge.client.continuity import CONTIGUOUS, Continuity, Finding, ids_of
from bridge.client.events import AnyEvent, ForeignMessage, Gap, UnreadableEvent, decode_event
from bridge.client.feed import Feed
from bridge.client.kafka_consumer import Consumer, Fetched, Record, name_of
from bridge.client.message_types import Names, check_message_types, upper_symbols
from bridge.client.reconnect import until_open
from bridge.client.start import FromId, Start, check_start
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

    Raises ValueError for an unknown message type or a wrong start, SinkRefused if the cluster
    rejects the credentials, RecordsRemoved or EventRemoved if Kafka no longer has what was asked
    for, ContinuityBroken if `check` is "raise", and UnreadableEvent for an event of another
    version; reading can go on after the last two. Entry raises SinkUnavailable if the cluster or a
    topic is absent. Records that no bridge can have written are logged and passed over.
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
    ) -> None:
        if isinstance(kafka, str):
            kafka = settings.Kafka.model_validate({"bootstrap_servers": kafka})
        if check not in {"report", "raise", "off"}:
            raise ValueError(f"check {check!r} is not report, raise or off")
        wanted, names = check_message_types(message_types), upper_symbols(symbols)
        self._check = "off" if set(CONTIGUOUS).isdisjoint(wanted) else check
        read = wanted if self._check == "off" else dict.fromkeys((*wanted, GAP))
        topics = {kind: topic_name(kafka.topic, venue, kind) for kind in read}
        check_start(start, topics.values(), wanted, names)
        self.findings: list[Finding] = []
        self.findings_count = 0
        self._from_id = start.id if isinstance(start, FromId) else None
        # Gap events before this time, in microseconds, are read for the check alone.
        self._since = round(start.timestamp() * 1e6) if isinstance(start, datetime) else 0
        self._keys = frozenset(name.encode() for name in names)
        self._topics = frozenset(topics[kind] for kind in wanted)
        self._gap_topic = topics.get(GAP)
        self._consumer = Consumer(kafka, topics, self._keys, start)
        self._continuity = Continuity()
        self._offsets: dict[TopicPartition, int] = {}
        # Records that were fetched and not returned yet.
        self._fetched: deque[Record] = deque()
        # The record that was compared with all gap events before it, and the one whose findings
        # were raised: it is returned afterwards.
        self._compared: Record | None = None
        self._accepted: Record | None = None
        self._returned: Record | None = None
        # The topics in which foreign records were found.
        self._passed_over: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._consumer.__aenter__()
        self._offsets |= self._consumer.offsets
        return self

    async def __aexit__(self, *_error: object) -> None:
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
        returned = self._returned
        before = {name_of(_place(returned)): returned.offset} if returned else {}
        return self.position | before

    def ready(self) -> AnyEvent | None:
        """Return the next event if it has been read; None if `read_more` must come first.

        Raises ContinuityBroken and UnreadableEvent.
        """
        while self._fetched:
            record = self._fetched.popleft()
            event = self._event(record)
            if event and not self._is_next(event) and record is not self._accepted:
                if record is not self._compared and self._continuity.findings(event):
                    self._fetched.appendleft(record)
                    return None
                self._accept(record, event)
            self._offsets[_place(record)] = record.offset + 1
            if event:
                self._returned = record
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
            self._offsets |= {at: records[-1].offset + 1 for at, records in fetched.items()}
            values = [r.value for records in fetched.values() for r in records if self._wanted(r)]
            if values:
                yield values

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
        self._fetched.extendleft(reversed(records))
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
