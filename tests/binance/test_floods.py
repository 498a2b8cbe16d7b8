"""An exchange that sends without end: nothing fills the memory, and everybody gets a turn."""

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

from bridge.binance.connection import Connection
from bridge.binance.transport.base import MAX_UNSENT_BYTES, MAX_WIRE_BYTES
from tests.support.exchange import FakeExchange, Step, bridge, go_deaf, send, trade
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(60)

PING, PONG = b"\x89\x7d" + b"x" * 125, b"\x8a\x00"
EMPTY_TEXT, EMPTY_PART = b"\x81\x00", b"\x00\x00"
PART = b"\x00\x7f" + (2**16).to_bytes(8) + b"x" * 2**16
WRITE_BYTES = 2**18


class Flood:
    """A step that writes the same frame again and again, until the connection is closed or so many
    bytes are written. `written` counts them.
    """

    def __init__(self, frame: bytes, most: int = 2**40, begin: bytes = b"") -> None:
        self._frames = frame * max(1, WRITE_BYTES // len(frame))
        self._most = most
        self._begin = begin
        self.written = 0

    async def __call__(self, connection: ServerConnection) -> None:
        transport = connection.transport
        transport.write(self._begin)
        while self.written < self._most and not transport.is_closing():
            transport.write(self._frames)
            self.written += len(self._frames)
            while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0)  # as fast as the other end reads


def write(data: bytes) -> Step:
    async def step(connection: ServerConnection) -> None:
        connection.transport.write(data)

    return step


async def replaced(journal: Journal, flood: Step, *before: Step) -> str:
    """Return why a connection with a flood was replaced."""
    exchange = FakeExchange([*before, flood], [send(trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(1)
    (entry, *_) = journal.named("connection_down")
    return str(entry["error"])


async def test_pings_whose_pongs_are_not_read_end_the_connection(journal: Journal) -> None:
    error = await replaced(journal, Flood(PING), go_deaf)
    assert "does not read" in error or "frames without data" in error


async def test_a_message_without_an_end_ends_the_connection(journal: Journal) -> None:
    flood = Flood(PART, begin=b"\x01\x00")
    error = await replaced(journal, flood)
    assert f"more than {MAX_WIRE_BYTES}" in error or "1009" in error
    assert flood.written < 8 * MAX_WIRE_BYTES  # and what the sockets hold


async def test_a_read_of_many_frames_is_handed_over_in_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two turns everybody else has one."""
    sizes: list[int] = []
    others = 0

    def other() -> None:
        nonlocal others
        others += 1

    def noted(connection: Connection, frames: list[bytes], received: int) -> None:
        assert others == len(sizes)
        asyncio.get_running_loop().call_soon(other)
        sizes.append(len(frames))
        on_frames(connection, frames, received)

    on_frames = Connection.on_frames
    monkeypatch.setattr(Connection, "on_frames", noted)
    exchange = FakeExchange([Flood(EMPTY_TEXT, most=2**18), send(trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until_id(1)
        assert running.pipeline.counts.invalid.total() == 2**17
    assert max(sizes) <= 2**14


@pytest.mark.parametrize(
    ("frame", "begin", "end"),
    [(EMPTY_PART, b"\x01\x00", b"\x80\x00"), (PONG, b"", b"")],
    ids=["part", "pong"],
)
async def test_frames_without_data_do_not_keep_the_trades_away(
    frame: bytes, begin: bytes, end: bytes
) -> None:
    """They cost nothing, or the connection is replaced."""
    flood = Flood(frame, most=2**19, begin=begin)
    exchange = FakeExchange([flood, write(end), send(trade(1))], [send(trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until_id(1)


def test_the_bounds_of_what_waits_are_small() -> None:
    assert MAX_UNSENT_BYTES <= 2**17
    assert MAX_WIRE_BYTES <= 2**24
