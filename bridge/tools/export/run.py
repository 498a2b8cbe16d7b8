"""One export, from the topics to the files.

The end of each partition is fixed at the start. Its events go to parts, in the order of partitions
and offsets. After each part the manifest says which offsets it has, and the next run continues
there.
"""

from collections.abc import AsyncGenerator, Mapping
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from bridge import settings
from bridge.brokers.kafka_reader import OnProgress, Partition, TopicReader
from bridge.client.columns import Columns
from bridge.client.time_range import RangeReader, Slice, TimeRange, partitions_of_range
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.errors import RecordsRemoved
from bridge.tools.export.folder import Folder
from bridge.tools.export.manifest import Manifest, Options, Part, SymbolRows, Topic, extend

if TYPE_CHECKING:
    import polars as pl

# A part ends when it has this many rows, or takes this much memory.
PART_MAX_ROWS = 500_000
PART_MAX_BYTES = 64 * 2**20


async def export_topics(  # noqa: PLR0913 - each is an option of its own
    kafka: settings.Kafka,
    wanted: Options,
    times: TimeRange,
    path: Path,
    *,
    venue: str = SPOT,
    on_progress: OnProgress = lambda _read, _remaining: None,
) -> tuple[Manifest, bool]:
    """Export to a folder, or continue the export that is there, with its times.

    Return the manifest, and whether there was anything to do. Check the parts of earlier runs, and
    write those again whose file is absent.

    Raises ExportRefused, PartDamaged, ExportFailed, MissingExtra, TimeRemoved, RecordsRemoved,
    UnreadableEvent, SinkUnavailable if a topic does not exist, or if the cluster cannot be reached
    or stops answering, and SinkRefused if it rejects our credentials.
    """
    columns = {kind: Columns(kind) for kind in wanted.message_types}
    version = metadata.version("tickbridge")
    with Folder(path) as folder:
        manifest = folder.manifest(wanted, version)
        if manifest and _is_whole(folder, manifest):
            return manifest, False
        async with TopicReader(kafka) as reader:
            if manifest is None:
                manifest = await _begun(reader, version, wanted, times, venue)
                folder.save(manifest)
            await _Run(folder, manifest, reader, on_progress).export(columns)
        manifest.complete = True
        folder.save(manifest)
        return manifest, True


def _is_whole(folder: Folder, manifest: Manifest) -> bool:
    """Check the parts, and return whether the export is complete and has all of them."""
    parts = [part for topic in manifest.topics for part in topic.parts]
    present = [part for part in parts if folder.has(part)]
    for part in present:
        folder.check(part)
    return manifest.complete and len(present) == len(parts)


async def _begun(
    reader: TopicReader, version: str, wanted: Options, times: TimeRange, venue: str
) -> Manifest:
    """Return the manifest of a new export, with the offsets that are to be read."""
    topics = []
    for kind in wanted.message_types:
        topic = topic_name(wanted.topic, venue, kind)
        offsets = await partitions_of_range(reader, topic, kind, times, wanted.symbols)
        topics.append(Topic(kind, topic, offsets))
    return Manifest(version, wanted, *times, topics)


class _Draft:
    """The rows of the next part."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []
        self.offsets: list[Partition] = []
        self.rows = self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self.rows >= PART_MAX_ROWS or self._bytes >= PART_MAX_BYTES

    def add(self, new: Slice) -> None:
        self.frames.append(new.frame)
        self.rows += new.frame.height
        self._bytes += round(new.frame.estimated_size())
        extend(self.offsets, new.offsets)


class _Run:
    """Reads one topic after the other, and writes its parts."""

    def __init__(
        self, folder: Folder, manifest: Manifest, reader: TopicReader, on_progress: OnProgress
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._reader = reader
        self._on_progress = on_progress
        self._absent = {
            part.file for topic in manifest.topics for part in topic.parts if not folder.has(part)
        }
        # The offsets of all topics that have been read, and those that are to be read at all.
        self._read = self._total = 0

    async def export(self, columns: Mapping[str, Columns]) -> None:
        """Write the parts whose file is absent, and those that were never written."""
        for topic in self._manifest.topics:
            await self._check_offsets(topic)
        times = TimeRange(self._manifest.from_time, self._manifest.to_time)
        symbols = self._manifest.options.symbols
        for topic in self._manifest.topics:
            of_topic = columns[topic.message_type]
            events = RangeReader(self._reader, topic.topic, of_topic, times, symbols)
            await self._restore(topic, of_topic, events)
            await self._continue(topic, of_topic, events)

    async def _check_offsets(self, topic: Topic) -> None:
        """Raise RecordsRemoved if Kafka no longer has the records that are to be read."""
        has = await self._bounds(topic)
        to_read = [self._left(topic, each, has) for each in topic.rest()]
        for part in topic.parts:
            to_read += part.offsets if part.file in self._absent else []
        for each in to_read:
            self._total += len(each)
            of = has.get(each.partition, Partition(each.partition, 0, 0))
            if each.begin_offset < of.begin_offset or each.end_offset > of.end_offset:
                name = f"{topic.topic}:{each.partition}"
                raise RecordsRemoved(name, each.begin_offset, of.begin_offset, of.end_offset)

    async def _bounds(self, topic: Topic) -> dict[int, Partition]:
        """Return what Kafka has of each partition now. Raises SinkUnavailable if it has none."""
        bounds = await self._reader.bounds(topic.topic)
        if not bounds:
            raise self._reader.absent(topic.topic)
        return {each.partition: each for each in bounds}

    def _left(self, topic: Topic, part: Partition, has: Mapping[int, Partition]) -> Partition:
        """Return the offsets of a partition without those that retention has removed by now, if the
        export begins with the earliest records and has not begun with this partition.
        """
        if self._manifest.from_time is not None or part not in topic.offsets:
            return part
        begin = max(part.begin_offset, has[part.partition].begin_offset)
        return Partition(part.partition, min(begin, part.end_offset), part.end_offset)

    async def _restore(self, topic: Topic, columns: Columns, events: RangeReader) -> None:
        """Write the parts whose file is absent again."""
        for part in topic.parts:
            if part.file in self._absent:
                frames = [each.frame async for each in self._slices(events, *part.offsets)]
                self._write(part, columns, frames)
                self._folder.save(self._manifest)

    async def _continue(self, topic: Topic, columns: Columns, events: RangeReader) -> None:
        """Write the parts that were never written; at least one, which has the columns."""
        draft = _Draft()
        for part in topic.rest():
            left = self._left(topic, part, await self._bounds(topic))
            async for each in self._slices(events, left):
                draft.add(each)
                if draft.is_full:
                    self._finish(topic, columns, draft)
                    draft = _Draft()
        if draft.rows or not topic.parts:
            self._finish(topic, columns, draft)
        else:  # the last offsets had no rows
            for offsets in draft.offsets:
                extend(topic.parts[-1].offsets, offsets)

    async def _slices(
        self, events: RangeReader, *offsets: Partition
    ) -> AsyncGenerator[Slice, None]:
        """Yield slices, and show the progress."""
        async for each in events.slices(offsets):
            yield each
            self._read += len(each.offsets)
            self._on_progress(self._read, self._total - self._read)

    def _finish(self, topic: Topic, columns: Columns, draft: _Draft) -> None:
        suffix = self._manifest.options.format
        file = f"{topic.message_type}/part-{len(topic.parts):05d}.{suffix}"
        part = Part(file, draft.offsets)
        self._write(part, columns, draft.frames)
        topic.parts.append(part)
        self._folder.save(self._manifest)

    def _write(self, part: Part, columns: Columns, frames: "list[pl.DataFrame]") -> None:
        frame = columns.joined(frames)
        part.rows, part.symbols = frame.height, rows_of_symbols(frame, columns)
        content = BytesIO()
        if self._manifest.options.format == "csv":
            frame.write_csv(content)
        else:
            columns.typed(frame).write_parquet(content)
        self._folder.write_part(part, content.getbuffer())


def rows_of_symbols(frame: "pl.DataFrame", columns: Columns) -> dict[str, SymbolRows]:
    """Return what the manifest says about each symbol of a part."""
    import polars as pl

    first, last = map(pl.col, columns.id_fields) if columns.id_fields else (pl.lit(None),) * 2
    time = pl.coalesce("timestamp", "received")
    found = (
        frame.group_by("symbol")
        .agg(
            pl.len().alias("rows"),
            first.min().alias("first_id"),
            last.max().alias("last_id"),
            time.min().alias("first_time"),
            time.max().alias("last_time"),
        )
        .sort("symbol")
    )
    return {symbol: SymbolRows(*row) for symbol, *row in found.iter_rows()}
