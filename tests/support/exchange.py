"""An exchange that follows a script, which mostly contains faults.

The script has one entry per connection. The last entry applies to all later connections.
"""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from bridge.binance.connector import State
from bridge.binance.feed import Feed
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import Event, Gap
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Record, Route, Router
from bridge.core.sequencing.sequencers import Sequencers
from bridge.pipeline.pipeline import Pipeline
from bridge.settings import Settings, load_settings
from bridge.sinks.memory import MemorySink

LOOPBACK = "127.0.0.1"
NAME = "btcusdt@trade"
TRANSPORTS: dict[str, dict[str, str]] = {
    "websockets": {},
    "picows": {"transport": "picows", "compression": "none"},
}
# The settings of the transport that the connectors of this test use.
transport = TRANSPORTS["websockets"]

Step = Callable[[ServerConnection], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer in place of the handshake."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoAnswer:
    """Accepts the handshake and never answers it, or answers it with a reset."""

    reset: bool = False


class LateAnswer:
    """Answers the handshake when it may, and follows a script. `asked` is set before."""

    def __init__(self, *script: Step) -> None:
        self.script = script
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.connection: ServerConnection

    async def wait(self, connection: ServerConnection) -> Sequence[Step]:
        """Return the script when it may answer."""
        self.connection = connection
        self.asked.set()
        await self.may_answer.wait()
        return self.script


Script = Sequence[Step] | Answer | NoAnswer | LateAnswer


class FakeExchange:
    """Records its requests: paths, times by the loop's clock, negotiated extensions.

    Also records when each connection opened and closed, by its number.
    """

    def __init__(self, *script: Script) -> None:
        self._script = script or ((),)
        self.paths: list[str] = []
        self.asked_at: list[float] = []
        self.opened_at: dict[int, float] = {}
        self.closed_at: dict[int, float] = {}
        self.extensions: list[list[str]] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator["FakeExchange"]:
        scheme = "wss" if options.get("ssl") else "ws"
        options = {"ping_interval": None, "close_timeout": 1} | options
        async with serve(
            self._converse, LOOPBACK, 0, process_request=self._respond, **options
        ) as server:
            self.url = f"{scheme}://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _respond(self, connection: ServerConnection, request: Request) -> Response | None:
        connection.number = len(self.paths)  # type: ignore[attr-defined]  # for the handler below
        entry = self._script[min(len(self.paths), len(self._script) - 1)]
        self.paths.append(request.path)
        self.asked_at.append(asyncio.get_running_loop().time())
        if isinstance(entry, Answer):
            headers = Headers({**entry.headers, "Content-Length": "0", "Connection": "close"})
            return Response(entry.status, HTTPStatus(entry.status).phrase, headers, b"")
        if isinstance(entry, NoAnswer):
            if entry.reset:
                connection.transport.abort()
            await connection.wait_closed()
            return None
        steps = await entry.wait(connection) if isinstance(entry, LateAnswer) else entry
        connection.steps = steps  # type: ignore[attr-defined]  # for the handler below
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        number: int = connection.number  # type: ignore[attr-defined]
        now_s = asyncio.get_running_loop().time
        self.opened_at[number] = now_s()
        self.extensions.append([type(e).__name__ for e in connection.protocol.extensions])
        try:
            for step in connection.steps:  # type: ignore[attr-defined]
                await step(connection)
        except ConnectionClosed:
            pass
        await connection.wait_closed()
        self.closed_at[number] = now_s()

    def open_at(self, moment_s: float) -> int:
        """Return the number of connections that were open at a moment."""
        return sum(
            opened_s <= moment_s < self.closed_at.get(number, moment_s + 1)
            for number, opened_s in self.opened_at.items()
        )


def send(*messages: str | bytes) -> Step:
    async def step(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)

    return step


def send_in_fragments(*parts: str) -> Step:
    async def step(connection: ServerConnection) -> None:
        await connection.send(parts)

    return step


def send_as_text(payload: bytes) -> Step:
    """Send any bytes as a text frame."""

    async def step(connection: ServerConnection) -> None:
        await connection.send(payload, text=True)

    return step


def send_in_one_read(*messages: str) -> Step:
    """Send all frames in one write, so that one read of the client contains many of them."""

    async def step(connection: ServerConnection) -> None:
        frames = (Frame(Opcode.TEXT, message.encode()) for message in messages)
        connection.transport.write(b"".join(frame.serialize(mask=False) for frame in frames))

    return step


def market(*names: str, every_s: float = 1.0, seconds: float = 10**6) -> Step:
    """Send the same events on all connections: the next id at each beat of the clock. Trades, or
    what the names say: quotes, books or mini tickers.
    """

    async def step(connection: ServerConnection) -> None:
        now_s = asyncio.get_running_loop().time
        end_s = now_s() + seconds
        while now_s() < end_s:
            beat = int(now_s() / every_s) + 1
            await asyncio.sleep(beat * every_s - now_s())
            for name in names or (NAME,):
                await connection.send(_FRAMES.get(name.partition("@")[2], trade)(beat, name))

    return step


def close(code: int = 1001, reason: str = "") -> Step:
    async def step(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    return step


def close_after(seconds: float) -> Step:
    async def step(connection: ServerConnection) -> None:
        await asyncio.sleep(seconds)
        await connection.close(1001)

    return step


async def drop(connection: ServerConnection) -> None:
    """Reset the TCP connection."""
    connection.transport.abort()


async def end(connection: ServerConnection) -> None:
    """Close the TCP connection after all written data, without a closing handshake."""
    connection.transport.close()


async def go_deaf(connection: ServerConnection) -> None:
    """Stop reading, so that no ping is answered."""
    connection.transport.pause_reading()


def trade(trade_id: int, name: str = NAME) -> str:
    """Return a combined frame of a trade as the exchange writes it."""
    return trade_of(name.partition("@")[0].encode().upper().decode(), trade_id, name)


def trade_of(symbol: str, trade_id: int, name: str) -> str:
    data = {"e": "trade", "E": 1_790_000_000_000, "s": symbol, "t": trade_id, "p": "61837.63"}
    data |= {"q": "0.02", "T": 1_790_000_000_000, "m": True, "M": True}
    return json.dumps({"stream": name, "data": data}, ensure_ascii=False, separators=(",", ":"))


def quote(update_id: int, name: str) -> str:
    """Return a combined frame of the best prices."""
    data = {"u": update_id, "s": name.partition("@")[0].upper()}
    data |= {"b": "1.0", "B": "2", "a": "1.1", "A": "3"}
    return json.dumps({"stream": name, "data": data}, separators=(",", ":"))


def book(update_id: int, name: str) -> str:
    """Return a combined frame of the top of a book."""
    data = {"lastUpdateId": update_id, "bids": [["1.0", "2"]], "asks": [["1.1", "3"]]}
    return json.dumps({"stream": name, "data": data})


def mini_ticker(beat: int, name: str) -> str:
    """Return a combined frame of a short ticker."""
    data = {
        "e": "24hrMiniTicker",
        "E": 1_790_000_000_000 + beat,
        "s": name.partition("@")[0].upper(),
    }
    data |= {"c": "1.0", "o": "1.0", "h": "1.0", "l": "1.0", "v": "1.0", "q": "1.0"}
    return json.dumps({"stream": name, "data": data})


_FRAMES = {"bookTicker": quote, "depth5": book, "miniTicker": mini_ticker}


class Recorder(MemorySink):
    """A memory sink that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self._pushed = asyncio.Event()

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        super().push(records, latest)
        self.reads += 1
        self._pushed.set()

    async def until(self, count: int) -> None:
        while len(self.records) < count:
            self._pushed.clear()
            await self._pushed.wait()

    async def until_id(self, identity: int) -> None:
        """Return when the trade with this id has arrived."""
        while identity not in self.ids():
            self._pushed.clear()
            await self._pushed.wait()

    def gaps(self) -> list[tuple[str, str]]:
        """Return the kind and the cause of each gap event."""
        return [(event.kind, event.cause) for event in self.events if isinstance(event, Gap)]

    def ids(self) -> list[int]:
        return [getattr(event, "trade_id") for event in self.events if hasattr(event, "trade_id")]  # noqa: B009


@dataclass
class Bridge:
    """A feed with a pipeline into memory."""

    feed: Feed
    pipeline: Pipeline
    sink: Recorder
    running: "asyncio.Task[None]"

    def states(self) -> list[State]:
        return [connector.state for connector in self.feed.connectors]


def options_for(exchange: FakeExchange, **options: Any) -> Settings:
    binance = {
        "websocket_url": exchange.url,
        "symbols": ["BTCUSDT"],
        "streams": ["trade"],
        "proxy": "none",
    }
    return load_settings(environment={}, overrides={"binance": binance | transport | options})


@asynccontextmanager
async def bridge(exchange: FakeExchange, *names: str, **options: Any) -> AsyncIterator[Bridge]:
    """Run everything between an exchange and a sink."""
    settings = options_for(exchange, **options)
    streams = [parse_stream(name) for name in names or (NAME,)]
    sink = Recorder()
    pipeline = Pipeline(SPOT, Router(streams, settings.kafka.topic), Sequencers(streams), [sink])
    feed = Feed(settings.binance)
    feed.add(pipeline, streams)
    running = asyncio.create_task(feed.run())
    try:
        yield Bridge(feed, pipeline, sink, running)
    finally:
        running.cancel()
        await asyncio.wait((running,))


@asynccontextmanager
async def served(
    path: str, answer: Callable[[web.Request], Awaitable[web.Response]]
) -> AsyncIterator[str]:
    """Answer GET requests of a path on loopback; yield the URL."""
    app = web.Application()
    app.router.add_get(path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return server TLS for the loopback address, with a self-signed certificate."""
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("makes a certificate with openssl, which is not on PATH")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate}"
    subject = ["-subj", "/CN=exchange", "-addext", f"subjectAltName=IP:{LOOPBACK}"]
    subprocess.run([openssl, *command.split(), *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class FakeRest:
    """A REST interface with these answers to exchangeInfo; later calls get the last one."""

    def __init__(self, *answers: Answer | bytes | Mapping[str, str]) -> None:
        self._answers = answers
        self.asked_at: list[float] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeRest"]:
        async with served("/api/v3/exchangeInfo", self._answer) as self.url:
            yield self

    async def _answer(self, _request: web.Request) -> web.Response:
        answer = self._answers[min(len(self.asked_at), len(self._answers) - 1)]
        self.asked_at.append(asyncio.get_running_loop().time())
        if isinstance(answer, Answer):
            return web.Response(status=answer.status, headers=dict(answer.headers))
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        symbols = [{"symbol": name, "status": status} for name, status in answer.items()]
        return web.json_response({"symbols": symbols})
