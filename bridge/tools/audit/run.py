"""One audit, from the cluster to the report.

The statuses are read first: what they claim must be in the data, whose end is fixed later. The gap
topic is read before the data too, so that the announced gaps are known when the records come. It is
read again after the end of the data was fixed, because a gap may be announced in between.
"""

from collections.abc import Callable, Sequence
from functools import partial

from bridge import settings
from bridge.brokers.kafka_reader import OnProgress, Partition, TopicReader
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.tools.audit.announced import Announcements
from bridge.tools.audit.claims import AllClaims
from bridge.tools.audit.report import Report
from bridge.tools.audit.topic import TopicAudit


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
        status_topic = topic_name(options.topic, venue, "status")
        statuses = await reader.bounds(status_topic) if claims.is_made else []
        await _read(reader, status_topic, statuses, claims.observe)
        announcements = Announcements(kind)
        known = await reader.bounds(gap_topic)
        await _read(reader, gap_topic, known, announcements.observe)
        bounds = await reader.bounds(topic)
        if not bounds:
            raise reader.absent(topic)
        since = _since(await reader.bounds(gap_topic), known)
        await _read(reader, gap_topic, since, partial(announcements.observe, is_settled=False))
        audit = TopicAudit(kind, announcements, claims, symbols)
        async for partition, records in reader.read(topic, bounds):
            audit.observe(partition, records)
            on_progress(audit.records, reader.remaining)
    return audit.finish(
        topic,
        bounds,
        gap_topic,
        gap_events=announcements.records if known or since else None,
        statuses=claims.records if statuses else None,
    )


async def _read(
    reader: TopicReader, topic: str, bounds: list[Partition], observe: Callable[[bytes], None]
) -> None:
    """Pass the value of each record to `observe`."""
    async for _, records in reader.read(topic, bounds):
        for record in records:
            observe(record.value)


def _since(bounds: list[Partition], known: list[Partition]) -> list[Partition]:
    """Return `bounds` without the offsets that `known` covers."""
    ends = {part.partition: part.end_offset for part in known}
    return [
        Partition(part.partition, ends.get(part.partition, part.begin_offset), part.end_offset)
        for part in bounds
    ]
