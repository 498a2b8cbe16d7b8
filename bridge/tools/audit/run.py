"""One audit, from the cluster to the report.

The statuses are read first: what they claim must be in the data, whose end is fixed later. The gap
topic is read before the data too, so that the announced gaps are known when the records come. It is
read again after the end of the data was fixed, because a gap may be announced in between.
"""

from collections.abc import Callable, Sequence

from bridge import settings
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.tools.audit.announced import Announcements
from bridge.tools.audit.claims import AllClaims
from bridge.tools.audit.report import Report
from bridge.tools.audit.topic import TopicAudit

# Called with the number of records read so far, and the number of offsets that remain.
OnProgress = Callable[[int, int], None]


async def audit_topic(
    options: settings.Kafka,
    kind: str,
    *,
    symbols: Sequence[str] = (),
    venue: str = SPOT,
    on_progress: OnProgress = lambda _read, _remaining: None,
) -> Report:
    """Audit the topic of a message type of RULES, for all symbols or for `symbols`.

    Raises SinkUnavailable if the topic does not exist, or if the cluster cannot be reached or
    stops answering; SinkRefused if the cluster rejects our credentials; TooManyStreams.
    """
    topic, gap_topic = (topic_name(options.topic, venue, name) for name in (kind, "gap"))
    async with TopicReader(options) as reader:
        claims = AllClaims(kind)
        statuses = await _claim(reader, topic_name(options.topic, venue, "status"), claims)
        announcements = Announcements(kind)
        known = await reader.bounds(gap_topic)
        await _announce(reader, gap_topic, known, announcements, is_settled=True)
        bounds = await reader.bounds(topic)
        if not bounds:
            raise reader.absent(topic)
        since = _since(await reader.bounds(gap_topic), known)
        await _announce(reader, gap_topic, since, announcements, is_settled=False)
        audit = TopicAudit(kind, announcements, claims, symbols)
        async for partition, records in reader.read(topic, bounds):
            audit.observe(partition, records)
            on_progress(audit.records, reader.remaining)
    gap_events = announcements.records if known or since else None
    return audit.finish(topic, bounds, gap_topic, gap_events=gap_events, statuses=statuses)


async def _claim(reader: TopicReader, topic: str, claims: AllClaims) -> int | None:
    """Read the statuses; return their number, None if none are about this message type."""
    bounds = await reader.bounds(topic) if claims.is_made else []
    async for _, records in reader.read(topic, bounds):
        for record in records:
            claims.observe(record.value)
    return claims.records if bounds else None


async def _announce(
    reader: TopicReader,
    topic: str,
    bounds: list[Partition],
    announcements: Announcements,
    *,
    is_settled: bool,
) -> None:
    async for _, records in reader.read(topic, bounds):
        for record in records:
            announcements.observe(record.value, is_settled=is_settled)


def _since(bounds: list[Partition], known: list[Partition]) -> list[Partition]:
    """Return `bounds` without the offsets that `known` covers."""
    ends = {part.partition: part.end_offset for part in known}
    return [
        Partition(part.partition, ends.get(part.partition, part.begin_offset), part.end_offset)
        for part in bounds
    ]
