"""A Redis that follows a script. It speaks just enough RESP for the sink's flushes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge.settings import load_settings
from bridge.sinks.redis.sink import RedisSink


def _reply_of(failure: bytes, failed_values: int) -> bytes:
    numbers = b"".join(b":%d\r\n" % number for number in range(1, failed_values + 1))
    words = b"$%d\r\n%s\r\n" % (len(failure), failure)
    return b"*6\r\n:0\r\n:0\r\n%s*%d\r\n%s$0\r\n\r\n*0\r\n" % (words, failed_values, numbers)


DONE = _reply_of(b"", 0)
STALL = b"stall"
HANG_UP = b"hang up"


def failed(words: bytes) -> bytes:
    """Return the reply to a flush that published its messages but did not set its one value."""
    return _reply_of(words, 1)


@dataclass(frozen=True)
class Flush:
    """One script call as it arrived, with its time by the loop's clock."""

    at_s: float
    payloads: list[bytes]
    values: int


class FakeRedis:
    """The server, with its replies.

    `connecting` are the replies to the empty flush of each new connection, `flushing` those to the
    other flushes. After the last reply, all flushes succeed. `flushes` has the successful ones.
    """

    def __init__(
        self, connecting: tuple[bytes, ...] = (), flushing: tuple[bytes, ...] = ()
    ) -> None:
        self._connecting = list(connecting)
        self._flushing = list(flushing)
        self.connections = 0
        self.loads = 0
        self.flushes: list[Flush] = []
        self.refused: list[Flush] = []
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeRedis"]:
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    def sink(self, **options: object) -> RedisSink:
        redis = {"url": f"redis://127.0.0.1:{self.port}/0"} | options
        overrides = {"binance": {"symbols": ["BTCUSDT"]}, "redis": redis}
        return RedisSink(load_settings(environment={}, overrides=overrides).redis, "fake")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (reply := self._reply(await _command(reader))) != HANG_UP:
                if reply == STALL:
                    await reader.read()
                    break
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _reply(self, words: list[bytes]) -> bytes:
        match words[0].upper():
            case b"EVALSHA":
                return self._run(words[3:], int(words[2]))
            case b"SCRIPT":
                self.loads += 1
                return b"$1\r\nx\r\n"
            case b"HELLO":
                return b"%1\r\n$5\r\nproto\r\n:3\r\n"
        return b"+OK\r\n"

    def _run(self, arguments: list[bytes], keys: int) -> bytes:
        """Answer a check of the server, a check of the rights (its arguments are channels), or a
        flush.
        """
        if arguments[keys:] == [b"0", b"0"]:
            return self._connecting.pop(0) if self._connecting else DONE
        if not arguments[keys].isdigit():
            return b"$0\r\n\r\n"
        return self._flush(arguments, keys)

    def _flush(self, arguments: list[bytes], keys: int) -> bytes:
        count = int(arguments[keys + 1])
        payloads = arguments[keys + 3 : keys + 3 + 2 * count : 2]
        flush = Flush(asyncio.get_running_loop().time(), payloads, keys - 1)
        reply = self._flushing.pop(0) if self._flushing else DONE
        (self.flushes if reply.startswith(b"*") else self.refused).append(flush)
        self.asked.set()
        return reply


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words
