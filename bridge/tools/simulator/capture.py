"""Captures: files of raw frames, each with its receive time.

Two line formats are read, plain or gzip. The first one is written:

    1723161254087896568 {"stream":"btcusdt@trade","data":{...}}      nanoseconds
    1618677372.1768699: {"stream":"busdtry@depth@100ms","data":{...}}   seconds, and the first
                                                                      line is the connect URL
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import msgspec

from bridge.tools.simulator.errors import CaptureError
from bridge.tools.simulator.fields import kind_of, symbol_of

_GZIP_MAGIC = b"\x1f\x8b"
_CONNECT_URL = (b"wss://", b"ws://")


class Frame(NamedTuple):
    """One frame of a combined stream; `payload` is its `data`, byte for byte."""

    received_us: int
    stream: str
    payload: bytes


class Snapshot(NamedTuple):
    """A REST answer of `/depth` that the recorder wrote between the frames."""

    received_us: int
    symbol: str
    payload: bytes


@dataclass(slots=True)
class Capture:
    """A capture in memory, in file order.

    `skipped` counts the lines that are neither frame nor snapshot.
    """

    path: Path
    frames: list[Frame] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    skipped: int = 0

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a whole capture.

        Raises CaptureError with the file and the line if the file is missing, is cut short, is
        not in one of the two formats, or contains no frame.
        """
        capture = cls(path)
        for item in read_capture(path):
            match item:
                case Frame():
                    capture.frames.append(item)
                case Snapshot():
                    capture.snapshots.append(item)
                case None:
                    capture.skipped += 1
        if not capture.frames:
            raise CaptureError(path, 1, "contains no frame of a combined stream; record it again")
        return capture


class _Envelope(msgspec.Struct, gc=False):
    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    lastUpdateId: int | None = None  # noqa: N815 (Binance's own name)


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def read_capture(path: Path) -> Iterator[Frame | Snapshot | None]:
    """Yield the lines of a capture one by one; None for one that is neither frame nor snapshot.

    A snapshot does not name its symbol. It belongs to the symbol of the depth update before it.
    """
    depth_symbol = ""
    for number, line in _lines(path):
        if line.startswith(_CONNECT_URL):
            continue
        received_us, text = _split(path, number, line)
        envelope = _envelope(path, number, text)
        if envelope.stream is not None and envelope.data:
            if kind_of(envelope.stream) == "depth":
                depth_symbol = symbol_of(envelope.stream)
            yield Frame(received_us, envelope.stream, bytes(envelope.data))
        elif envelope.lastUpdateId is not None and depth_symbol:
            yield Snapshot(received_us, depth_symbol, text)
        else:
            yield None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if stripped := line.strip():
                    yield number, stripped
    except (OSError, EOFError, zlib.error) as error:
        raise CaptureError(path, number + 1, f"cannot be read: {error}") from error


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _split(path: Path, number: int, line: bytes) -> tuple[int, bytes]:
    moment, _, text = line.partition(b" ")
    try:
        if moment.endswith(b":"):
            return round(float(moment[:-1]) * 1_000_000), text
        return int(moment) // 1_000, text
    except (ValueError, OverflowError):
        raise CaptureError(
            path,
            number,
            f"begins with {moment[:40]!r}; expected `<receive ns> <json>` "
            "or `<receive seconds>: <json>`",
        ) from None


def _envelope(path: Path, number: int, text: bytes) -> _Envelope:
    try:
        return _decode_envelope(text)
    except msgspec.ValidationError:  # valid JSON of another shape: a control reply or an array
        return _Envelope()
    except msgspec.DecodeError as error:
        raise CaptureError(path, number, f"is not JSON: {error}; is the file cut short?") from None


class CaptureWriter:
    """Writes a capture in the nanosecond format, with gzip if the name ends in `.gz`.

    A context manager. The file is complete only after it has been closed.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO | gzip.GzipFile
        if path.suffix == ".gz":
            self._file = gzip.open(path, "wb")  # noqa: SIM115 (closed by `close`)
        else:
            self._file = path.open("wb")
        self.frames = 0

    def write(self, received_ns: int, frame_text: str) -> None:
        """Append one frame as received, with its receive time in nanoseconds."""
        self._file.write(b"%d %b\n" % (received_ns, frame_text.encode()))
        self.frames += 1

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
