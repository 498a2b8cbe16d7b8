"""Reads a daily archive of the exchange (data.binance.vision): a zip with one CSV, and a checksum.

The columns are those of https://github.com/binance/binance-public-data. Since 2025 times are in
microseconds, before in milliseconds. Archives may lack single ids, and are replaced at times.
"""

import csv
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from bridge.errors import TickbridgeError

MAX_UNPACKED_BYTES = 16 * 2**30
MAX_LINE_CHARS = 1000
MICROSECONDS_SINCE = date(2025, 1, 1)
_CHUNK_BYTES = 2**20
_NAME = re.compile(r"(?P<symbol>[^/\\]+)-(?P<what>trades|aggTrades)-(?P<day>\d{4}-\d\d-\d\d)\.zip")
# What reading a file raises that is damaged, encrypted, or no zip with one file.
_NO_ZIP = (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, csv.Error)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadArchive(TickbridgeError):
    """A file that is no daily archive of the exchange, or is damaged."""


class Columns(NamedTuple):
    """The places of the columns of an archive. `others` are compared as numbers."""

    message_type: str
    id: int
    price: int
    volume: int
    time: int
    is_buyer_maker: int
    others: tuple[int, ...] = ()


_COLUMNS = {
    "trades": Columns("trade", 0, 1, 2, 4, 5),
    "aggTrades": Columns("agg_trade", 0, 1, 2, 5, 6, (3, 4)),
}

Fields = tuple[str, ...]
"""Price, volume, time, side of the taker, and further ids, as texts without trailing zeros."""


class Archive:
    """An archive of one symbol and day. Raises BadArchive.

    `begin` and `end` are the bounds of the day in milliseconds, the end excluded. `time_unit_us` is
    the unit of its times in microseconds.
    """

    def __init__(self, path: Path) -> None:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise BadArchive(
                f"{path.name} is not named like a daily archive of trades or aggTrades, for "
                "example BTCUSDT-trades-2026-11-28.zip; keep the name that it was downloaded with"
            )
        self.path = path
        self.symbol = match["symbol"]
        self.day = _day(match["day"], path)
        self._columns = _COLUMNS[match["what"]]
        self.message_type = self._columns.message_type
        self.time_unit_us = 1 if self.day >= MICROSECONDS_SINCE else 1000
        begin = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        self.begin_ms = round(begin.timestamp() * 1000)
        self.end_ms = round((begin + timedelta(days=1)).timestamp() * 1000)

    @cached_property
    def sha256(self) -> str:
        """Return the checksum of the file, as the exchange writes it."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def check(self) -> bool:
        """Return whether there is a file with the checksum. Raises BadArchive if it differs."""
        file = self.path.with_name(self.path.name + ".CHECKSUM")
        try:
            words = file.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            raise BadArchive(f"cannot read {file}: {error}") from error
        if not words or not _SHA256.fullmatch(words[0]):
            raise BadArchive(f"{file} does not contain a SHA-256; download it again")
        if words[0] != self.sha256:
            raise BadArchive(
                f"{self.path.name} has the checksum {self.sha256}, {file.name} says {words[0]}; "
                "download both again, because the exchange replaces archives at times"
            )
        return True

    def rows(self) -> Iterator[tuple[int, Fields]]:
        """Yield the id and the fields of each row. Raises BadArchive."""
        columns = self._columns
        for number, row in enumerate(self._lines(), start=1):
            try:
                yield int(row[columns.id]), self._fields(row)
            except (ValueError, IndexError, KeyError) as error:
                if number == 1 and row and not row[0].isdecimal():
                    continue  # the names of the columns
                raise BadArchive(f"{self.path.name}: row {number} cannot be read: {row}") from error

    def _fields(self, row: list[str]) -> Fields:
        columns = self._columns
        is_buyer_maker = {"true": True, "false": False}[row[columns.is_buyer_maker].lower()]
        return fields_of(
            row[columns.price],
            row[columns.volume],
            int(row[columns.time]),
            "sell" if is_buyer_maker else "buy",
            *(int(row[place]) for place in columns.others),
        )

    def _lines(self) -> Iterator[list[str]]:
        try:
            with zipfile.ZipFile(self.path) as packed:
                (member,) = packed.infolist()
                if member.file_size > MAX_UNPACKED_BYTES:
                    raise BadArchive(f"{self.path.name} holds {member.file_size} bytes, too many")
                with (
                    packed.open(member) as file,
                    io.TextIOWrapper(file, "utf-8", newline="") as text,
                ):
                    yield from csv.reader(_bounded(text))
        except _NO_ZIP as error:
            raise BadArchive(f"{self.path.name} is no zip with one CSV: {error}") from error


def fields_of(price: str, volume: str, time: int, side: str, *others: int) -> Fields:
    """Return the fields of an event in the form in which two sources are compared."""
    return (_plain(price), _plain(volume), f"{time}", side, *map(str, others))


def _plain(number: str) -> str:
    """Return a decimal number without trailing zeros. Raises ValueError if it is none."""
    if not number.replace(".", "", 1).isdecimal():
        raise ValueError(f"{number!r} is not a number")
    return number.rstrip("0").rstrip(".") if "." in number else number


def _bounded(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE_CHARS):
        if not line.endswith("\n") and len(line) == MAX_LINE_CHARS:
            raise ValueError(f"a line has more than {MAX_LINE_CHARS} characters")
        yield line


def _day(text: str, path: Path) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise BadArchive(f"{path.name} names no day: {error}") from error
