"""What an export has written and where it continues: `manifest.json` in its folder.

Times are in microseconds since 1970-01-01 UTC.
"""

from typing import Literal

import msgspec

from bridge.brokers.kafka_reader import Partition

Format = Literal["parquet", "csv"]


class Options(msgspec.Struct, rename={"begin": "from", "end": "to"}):
    """The options of the command, as they were given: an export is continued with the same ones."""

    message_types: list[str]
    begin: str
    end: str | None
    symbols: list[str]
    format: Format
    kafka: list[str]
    topic: str

    def differences(self, other: "Options") -> list[str]:
        """Return the options that differ, with the value of this one first."""
        return [
            f"{name} is {_shown(ours)}, not {_shown(others)}"
            for (name, ours), others in zip(
                msgspec.to_builtins(self).items(), msgspec.structs.astuple(other), strict=True
            )
            if ours != others
        ]


class SymbolRows(msgspec.Struct):
    """The rows of one symbol in a part: how many, and their lowest and highest ids and times."""

    rows: int
    first_id: int | None
    last_id: int | None
    first_time: int
    last_time: int


class Part(msgspec.Struct):
    """A file, relative to the folder, and the offsets whose events it has."""

    file: str
    offsets: list[Partition]
    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    symbols: dict[str, SymbolRows] = {}


class Topic(msgspec.Struct):
    """The export of one topic: the offsets that are to be read, and the parts so far."""

    message_type: str
    topic: str
    offsets: list[Partition]
    parts: list[Part] = []

    def rest(self) -> list[Partition]:
        """Return the offsets that no part has."""
        reached = {each.partition: each.end_offset for part in self.parts for each in part.offsets}
        rest = [
            Partition(
                each.partition, reached.get(each.partition, each.begin_offset), each.end_offset
            )
            for each in self.offsets
        ]
        return [each for each in rest if len(each)]


class Manifest(msgspec.Struct):
    """An export. `from_time` is None if it begins with the oldest records."""

    version: str
    options: Options
    from_time: int | None
    to_time: int
    topics: list[Topic]
    complete: bool = False

    def symbols(self) -> set[str]:
        """Return the symbols that have rows."""
        return {symbol for topic in self.topics for part in topic.parts for symbol in part.symbols}


def extend(ranges: list[Partition], new: Partition) -> None:
    """Append a range of offsets, or extend the last one if the new one continues it."""
    if ranges and ranges[-1].partition == new.partition:
        ranges[-1].end_offset = new.end_offset
    else:
        ranges.append(new)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "not given"
    return "not given" if value is None else str(value)
