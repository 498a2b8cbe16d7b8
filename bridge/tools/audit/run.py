"""One audit, from the cluster to the report.

The gap topic is read before the data, so that what was announced is known when its records come,
and again after the data's end has been taken: a gap may be announced at any moment in between.
"""

from collections.abc import Callable, Sequence

from bridge import settings
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.tools.audit.announced import Announcements
from bridge.tools.audit.report import Report
from bridge.tools.audit.topic import TopicAudit

# Called with how many records were read so far, and how many offsets are still to come.
OnProgress = Callable[[int, int], None]


async def audit_topic(
    options: settings.Kafka,
    kind: str,
    *,
    symbols: Sequence[str] = (),
    venue: str = SPOT,
    on_progress: OnProgress = lambda _read, _remaining: None,
) -> Report:
    """Audit the topic of a kind (of RULES), of all symbols or of these.

    Raises SinkUnavailable where the cluster or the topic is not there or stops answering,
    SinkRefused where it rejects our credentials, TooManyStreams.
    """
    topic, gap_topic = (topic_name(options.topic, venue, name) for name in (kind, "gap"))
    async with TopicReader(options) as reader:
        announcements = Announcements(kind)
        known = await reader.bounds(gap_topic)
        await _announce(reader, gap_topic, known, announcements, is_settled=True)
        bounds = await reader.bounds(topic)
        if not bounds:
            raise reader.absent(topic)
        since = _since(await reader.bounds(gap_topic), known)
        await _announce(reader, gap_topic, since, announcements, is_settled=False)
        audit = TopicAudit(kind, announcements, symbols)
        async for partition, records in reader.read(topic, bounds):
            audit.observe(partition, records)
            on_progress(audit.records, reader.remaining)
    gap_events = announcements.records if known or since else None
    return audit.finish(topic, bounds, gap_topic, gap_events)


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
    """What came behind the ends known."""
    ends = {part.partition: part.end_offset for part in known}
    return [
        Partition(part.partition, ends.get(part.partition, part.begin_offset), part.end_offset)
        for part in bounds
    ]
