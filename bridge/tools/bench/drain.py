"""The rate of the generator alone, at full speed, to a client that reads and discards."""

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import msgspec

from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.load_generator import Opening, Progress
from bridge.tools.bench.processes import python
from bridge.tools.bench.workload import Load

READ_BYTES = 2**18
_HANDSHAKE = (
    "GET /stream?streams={streams} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}\r\n"
)
_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


async def drain(load: Load, seconds: float, *, deflate: bool) -> float:
    """Return the messages per second that a generator at full speed hands to this client.

    Raises BenchFailed if the generator exits, does not answer, or closes the connection.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = ("bridge.tools.bench.load_generator", msgspec.json.encode(load).decode())
        async with python(Path(folder), *words) as exchange:
            opening = msgspec.json.decode(await exchange.line(), type=Opening)
            names = [f"{s.lower()}@{kind}" for s in opening.symbols for kind in load.streams]
            reading = asyncio.create_task(_read_all(opening.port, names, deflate=deflate))
            try:
                progress: list[Progress] = []
                while not progress or progress[-1].at_us - progress[0].at_us < seconds * 1e6:
                    one = msgspec.json.decode(await exchange.line(), type=Progress)
                    if reading.done():
                        raise exchange.failure("has closed the connection")
                    if one.offered:
                        progress.append(one)
            finally:
                reading.cancel()
                await asyncio.wait((reading,))
    return rate(progress)


def rate(progress: list[Progress]) -> float:
    """Return the messages per second between the first line and the last."""
    first, last = progress[0], progress[-1]
    assert all(a.offered <= b.offered for a, b in pairwise(progress))  # noqa: S101
    return (last.offered - first.offered) / (last.at_us - first.at_us) * 1e6


async def _read_all(port: int, names: list[str], *, deflate: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
    streams = quote("/".join(names), safe="@!:/")
    extensions = _DEFLATE if deflate else ""
    writer.write(_HANDSHAKE.format(streams=streams, extensions=extensions).encode())
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer.splitlines()[0]:
            raise BenchFailed(f"the generator refuses WebSocket: {answer.splitlines()[0]!r}")
        while await reader.read(READ_BYTES):
            pass
    finally:
        writer.close()
