"""Exports: what is in the files, and what a run that was stopped or damaged leads to."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from bridge import settings
from bridge.brokers.kafka_client import client_options
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.client import UnreadableEvent
from bridge.client import time_range as ranges
from bridge.client.events import microseconds_of
from bridge.client.time_range import RangeReader, Slice, TimeRange
from bridge.core.model.events import BookDelta, Quote
from bridge.core.model.stream import SPOT
from bridge.errors import RecordsRemoved, SinkUnavailable, TimeRemoved
from bridge.tools.export import run
from bridge.tools.export.errors import ExportFailed, ExportRefused, PartDamaged
from bridge.tools.export.folder import Folder
from bridge.tools.export.manifest import Manifest, Part, SymbolRows
from tests.support.audit_publishing import publish as write_values
from tests.support.audit_publishing import topic_of
from tests.support.brokers import Kafka, administration
from tests.support.exporting import (
    as_texts,
    expected_rows,
    records_of,
    rows_of_csv,
    rows_of_parquet,
)
from tests.support.publishing import gap, kafka_options, publish, trade
from tests.tools.export.conftest import ALL, Export

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "币安人生USDT")
# The times of these trades: microseconds after `FIRST`.
FIRST = trade("BTCUSDT", 0).timestamp or 0


async def publish_trades(options: settings.Kafka, count: int = 40) -> list[bytes]:
    """Publish trades of all symbols; return the records in the order of the topic."""
    trades = [trade(symbol, number) for number in range(count) for symbol in SYMBOLS]
    await publish(options, trades, at_their_time=True)
    return await records_of(options, "trade")


def files_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def parts_of(manifest: Manifest) -> list[Part]:
    return [part for topic in manifest.topics for part in topic.parts]


def filled(folder: Path, *names: str) -> Path:
    """Create a folder with files that have one character."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{")
    return folder


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a part of every fetch, and a fetch of few records."""
    monkeypatch.setattr(run, "PART_MAX_ROWS", 1)
    monkeypatch.setitem(TopicReader.consumer_options, "max_poll_records", 25)


async def test_parquet_has_the_events_of_the_topic_row_by_row(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    values = await publish_trades(options)
    await export()
    assert rows_of_parquet(folder, "trade") == expected_rows(values)


async def test_csv_has_the_texts_of_the_records_row_by_row(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    values = await publish_trades(options)
    await export(format="csv")
    assert rows_of_csv(folder, "trade") == [as_texts("trade", value) for value in values]


async def test_events_of_every_kind_of_column_come_back(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    head = (SPOT, "BTCUSDT", None, 1723161254088000, "websocket")
    levels = [("61837.63000000", "0.00000000"), ("1", "2.5")]
    quote = Quote(*head, 7, "1.0", "2", "3", "4.00000001")  # type: ignore[arg-type]
    delta = BookDelta(*head, 3, 5, levels, [])  # type: ignore[arg-type]
    await publish(options, [quote, delta, gap("BTCUSDT")])
    manifest = await export(message_types=["quote", "book_delta", "gap"])
    for kind in ("quote", "book_delta", "gap"):
        assert rows_of_parquet(folder, kind) == expected_rows(await records_of(options, kind))
    ids = [next(iter(part.symbols.values())) for part in parts_of(manifest)]
    assert [(each.first_id, each.last_id) for each in ids] == [(7, 7), (3, 5), (None, None)]


@pytest.mark.usefixtures("_small_parts")
async def test_the_manifest_describes_every_part(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    await publish_trades(options)
    manifest = await export()
    files = files_of(folder)
    assert msgspec.json.decode(files.pop("manifest.json"), type=Manifest) == manifest
    assert manifest.complete
    parts = parts_of(manifest)
    assert len(parts) > len(SYMBOLS)
    assert {part.file: part.sha256 for part in parts} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert [part.bytes for part in parts] == [len(files[part.file]) for part in parts]
    assert sum(part.rows for part in parts) == 40 * len(SYMBOLS)
    for part in parts:
        assert sum(each.rows for each in part.symbols.values()) == part.rows
    of_btc = [part.symbols["BTCUSDT"] for part in parts if "BTCUSDT" in part.symbols]
    assert of_btc[0] == SymbolRows(
        of_btc[0].rows, 0, of_btc[0].last_id, FIRST, FIRST + (of_btc[0].last_id or 0)
    )
    assert of_btc[-1].last_id == 39


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("file_format", ["parquet", "csv"])
@pytest.mark.parametrize("step", ["save", "write_part"])
async def test_an_export_that_was_killed_continues_to_the_same_files(
    *,
    options: settings.Kafka,
    export: Export,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    file_format: str,
) -> None:
    """It is killed again and again, after each step that writes, and gets one part further."""
    values = await publish_trades(options)
    original, runs, left = getattr(Folder, step), 0, 0

    def killed_later(self: Folder, *arguments: object) -> None:
        nonlocal left
        original(self, *arguments)
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Folder, step, killed_later)
    while True:
        runs, left = runs + 1, 2
        try:
            manifest = await export(format=file_format)
        except KeyboardInterrupt:
            continue
        break
    assert runs > len(SYMBOLS)
    if file_format == "parquet":
        assert rows_of_parquet(folder, "trade") == expected_rows(values)
    else:
        assert rows_of_csv(folder, "trade") == [as_texts("trade", value) for value in values]
    assert manifest.complete
    assert len(files_of(folder)) == 1 + len(parts_of(manifest))


async def test_an_export_that_is_complete_is_left_as_it_is(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    await publish_trades(options)
    before, files = await export(), files_of(folder)
    await publish(options, [trade("BTCUSDT", 99)])
    assert await export() == before
    assert files_of(folder) == files


@pytest.mark.usefixtures("_small_parts")
async def test_events_after_the_start_are_left_to_the_next_export(
    options: settings.Kafka, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ends of the partitions are those of the first run, also when it continues."""
    values = await publish_trades(options)

    def killed(_self: Folder, _part: Part, _content: memoryview) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write_part", killed)
        with pytest.raises(KeyboardInterrupt):
            await export()
    await publish(options, [trade("BTCUSDT", 99)])
    await export()
    assert rows_of_parquet(folder, "trade") == expected_rows(values)


@pytest.mark.usefixtures("_small_parts")
async def test_a_damaged_part_is_named_and_can_be_written_again(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    await publish_trades(options)
    manifest = await export()
    files = files_of(folder)
    damaged = folder / parts_of(manifest)[1].file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(PartDamaged, match=r"part-00001\.parquet is damaged.*delete this file"):
        await export()
    damaged.unlink()
    assert await export() == manifest
    assert files_of(folder) == files


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": "csv"}, "format is parquet, not csv"),
        ({"begin": "15m"}, "from is earliest, not 15m"),
        ({"end": "1m"}, "to is not given, not 1m"),
        ({"symbols": ["BTCUSDT"]}, "symbols is not given, not BTCUSDT"),
        ({"message_types": ["trade", "gap"]}, "message_types is trade, not trade,gap"),
        ({"kafka": ["a:1", "b:2"]}, "kafka is somewhere, not a:1,b:2"),
    ],
)
async def test_other_options_in_the_same_folder_are_refused(
    options: settings.Kafka, export: Export, changes: dict[str, object], named: str
) -> None:
    await publish_trades(options, 1)
    await export()
    with pytest.raises(ExportRefused, match=f"other options: {named}; repeat that command, or use"):
        await export(**changes)


async def test_an_export_of_another_version_is_not_continued(
    options: settings.Kafka, export: Export, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its columns may be others. A complete one stays valid."""
    await publish_trades(options, 1)
    manifest = await export()
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "9.9.9")
    assert await export() == manifest
    manifest.complete = False
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ExportRefused, match=r"version is \S+, not 9\.9\.9"):
        await export()


async def test_a_folder_with_other_files_is_refused(export: Export, folder: Path) -> None:
    filled(folder, "thesis.txt")
    with pytest.raises(ExportRefused, match=r"has files, but no manifest\.json; use another"):
        await export()


async def test_a_manifest_that_cannot_be_read_is_named(export: Export, folder: Path) -> None:
    filled(folder, "manifest.json")
    with pytest.raises(ExportRefused, match=r"manifest\.json cannot be read: .*; use another"):
        await export()


async def test_a_folder_that_another_export_writes_to_is_refused(
    export: Export, folder: Path
) -> None:
    with Folder(folder), pytest.raises(ExportRefused, match="is in use by another export; wait"):
        await export()


async def test_a_folder_that_cannot_be_written_is_named(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    await publish_trades(options, 1)
    (filled(folder) / "manifest.json.tmp").mkdir()
    with pytest.raises(ExportFailed, match=r"manifest\.json: Is a directory; .*run the command"):
        await export()


async def test_an_absent_topic_is_named(export: Export) -> None:
    with pytest.raises(SinkUnavailable, match=r"no topic \S+\.block_trade; check"):
        await export(message_types=["block_trade"])


async def test_a_topic_without_events_has_a_part_with_the_columns(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    await write_values(options, "trade", [])
    (part,) = parts_of(await export())
    assert (part.rows, part.symbols) == (0, {})
    assert rows_of_parquet(folder, "trade") == []


async def test_only_the_symbols_asked_for_are_exported(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    values = await publish_trades(options)
    wanted = {"ETHUSDT", "币安人生USDT"}
    manifest = await export(symbols=[*wanted])
    expected = [row for row in expected_rows(values) if row[1] in wanted]
    assert rows_of_parquet(folder, "trade") == expected
    assert manifest.symbols() == wanted


async def test_foreign_records_are_passed_over(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    values = await publish_trades(options, 2)
    await write_values(options, "trade", [b"\xff", b"{}", b""])
    await export()
    assert rows_of_parquet(folder, "trade") == expected_rows(values)


@pytest.mark.parametrize(
    ("message_type", "reason"),
    [("mood", "unknown to this version; update tickbridge"), ("trade", "not a valid trade event")],
)
async def test_an_event_of_a_newer_bridge_is_named_with_its_place(
    options: settings.Kafka, export: Export, message_type: str, reason: str
) -> None:
    value = msgspec.json.encode({"message_type": message_type})
    await write_values(options, "trade", [value], partition=1)
    place = r"offset 0 of \S+\.trade:1 cannot be read as trade"
    with pytest.raises(UnreadableEvent, match=f"{place}: .*{reason}"):
        await export()


@pytest.mark.usefixtures("real_kafka")
async def test_events_from_a_time_to_another_one_are_exported(
    options: settings.Kafka, export: Export, folder: Path
) -> None:
    values = await publish_trades(options)
    await export(times=TimeRange(FIRST + 10, FIRST + 20))
    rows = [row for row in expected_rows(values) if FIRST + 10 <= row[2] < FIRST + 20]
    assert len(rows) == 10 * len(SYMBOLS)
    assert rows_of_parquet(folder, "trade") == rows


@pytest.mark.usefixtures("real_kafka")
async def test_a_trade_that_was_fetched_late_is_found(
    options: settings.Kafka,
    export: Export,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lies after younger trades, within the time that is read after the end of the range."""
    monkeypatch.setattr(ranges, "LATE_MS", 2000)
    seconds = (0, 1, 5, 2, 6, 9, 3)
    trades = [trade("BTCUSDT", second * 1_000_000) for second in seconds]
    await publish(options, trades, at_their_time=True)
    await export(times=TimeRange(FIRST + 1_000_000, FIRST + 4_000_000))
    ids = [row[5] for row in rows_of_parquet(folder, "trade")]
    assert ids == [1_000_000, 2_000_000], "trade 3 came more than 2 s late"


async def _delete_before(kafka: Kafka, place: Partition, topic: str) -> None:
    async with administration(kafka) as admin:
        at = TopicPartition(topic, place.partition)
        await admin.delete_records({at: RecordsToDelete(before_offset=place.begin_offset)})


async def _partition_of(options: settings.Kafka) -> int:
    """Return the partition that has BTCUSDT."""
    async with TopicReader(options) as reader:
        bounds = await reader.bounds(topic_of(options, "trade"))
    (number,) = (part.partition for part in bounds if len(part))
    return number


async def test_a_time_before_retention_is_named_with_the_oldest_one(
    real_kafka: Kafka, options: settings.Kafka, export: Export, folder: Path
) -> None:
    topic = topic_of(options, "trade")
    await publish(options, [trade("BTCUSDT", n * 1000) for n in range(10)], at_their_time=True)
    place = Partition(await _partition_of(options), 4, 10)
    await _delete_before(real_kafka, place, topic)
    with pytest.raises(TimeRemoved, match=r"start at 2024-08-08T23:54:14\.092\+00:00 or later"):
        await export(times=TimeRange(FIRST, ALL.end))
    await export(times=TimeRange(FIRST + 5000, ALL.end))
    assert [row[5] for row in rows_of_parquet(folder, "trade")] == [5000, 6000, 7000, 8000, 9000]


async def test_a_quiet_partition_within_retention_is_no_error(
    real_kafka: Kafka, unique: str, export: Export
) -> None:
    """Records were removed from it, but those were older than the time for which Kafka keeps
    them.
    """
    options = kafka_options(real_kafka, unique)
    topic, now = topic_of(options, "trade"), datetime.now(UTC)
    admin = AIOKafkaAdminClient(**client_options(options))
    await admin.start()
    week = {"retention.ms": str(7 * 86_400_000)}
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=week)])
    await admin.close()
    await write_values(options, "trade", [msgspec.json.encode(trade("BTCUSDT", 1))] * 3)
    await _delete_before(real_kafka, Partition(0, 2, 3), topic)
    hour_ago, month_ago = now - timedelta(hours=1), now - timedelta(days=30)
    with pytest.raises(TimeRemoved):
        await export(times=TimeRange(microseconds_of(month_ago), microseconds_of(now)))
    await export(times=TimeRange(microseconds_of(hour_ago), microseconds_of(now)))


@pytest.mark.usefixtures("_small_parts")
async def test_records_that_retention_removed_before_an_export_continued_are_named(
    real_kafka: Kafka,
    options: settings.Kafka,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await publish(options, [trade("BTCUSDT", number) for number in range(100)])
    original = Folder.save

    def killed(self: Folder, manifest: Manifest) -> None:
        original(self, manifest)
        if parts_of(manifest):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            await export()
    place = Partition(await _partition_of(options), 90, 100)
    await _delete_before(real_kafka, place, topic_of(options, "trade"))
    with pytest.raises(RecordsRemoved, match=r"no record \d+ of \S+, only those from 90 to 100"):
        await export()


@pytest.mark.usefixtures("_small_parts")
async def test_an_export_of_what_is_left_goes_on_with_what_is_left_later(
    real_kafka: Kafka,
    options: settings.Kafka,
    export: Export,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Retention removes records of a later partition while an earlier one is read."""
    values = await publish_trades(options)
    topic, original = topic_of(options, "trade"), RangeReader.slices
    async with TopicReader(options) as reader:
        *_, place = (part for part in await reader.bounds(topic) if len(part))
    cut = Partition(place.partition, len(place) - 3, len(place))

    async def slices(self: RangeReader, partitions: Sequence[Partition]) -> AsyncIterator[Slice]:
        await _delete_before(real_kafka, cut, topic)
        async for each in original(self, partitions):
            yield each

    monkeypatch.setattr(RangeReader, "slices", slices)
    manifest = await export()
    assert manifest.complete
    assert rows_of_parquet(folder, "trade") == [
        *expected_rows(values[: -len(place)]),
        *expected_rows(values[-3:]),
    ]


async def test_the_progress_ends_with_nothing_remaining(
    options: settings.Kafka, export: Export
) -> None:
    await publish_trades(options)
    told: list[tuple[int, int]] = []
    await export(on_progress=lambda *numbers: told.append(numbers))
    assert {sum(numbers) for numbers in told} == {40 * len(SYMBOLS)}
    assert told[-1] == (40 * len(SYMBOLS), 0)
    assert told == sorted(told)
