"""The processes of one run, and the topics and files that they share."""

import asyncio
import json
import tempfile
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import msgspec

from bridge.core.binance.stream_names import stream_of
from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import latest_key
from bridge.core.records.record import topic_name
from bridge.tools.bench import peer
from bridge.tools.bench.bare_publisher import Span
from bridge.tools.bench.brokers import Brokers, create_topics, remove_traces
from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.load_generator import Opening, Progress
from bridge.tools.bench.processes import START_TIMEOUT_S, Child, program, python
from bridge.tools.bench.scrape import READY_PATH, is_ready
from bridge.tools.bench.statistics import Delays
from bridge.tools.bench.workload import WIRES, Load, Wire
from bridge.tools.embedded import free_port


@dataclass(frozen=True, slots=True)
class Plan:
    """The load, the bridges that carry it, each with a shard, the listeners (`kafka`, `redis`,
    `prices`), and the number of viewers of the first bridge's dashboard. With `peer`, the peer
    carries the load. The bridges are sampled every `sample_s`.
    """

    load: Load
    wire: Wire = WIRES["websockets"]
    bridges: int = 1
    listeners: tuple[str, ...] = ()
    ends_when_overrun: bool = False
    viewers: int = 0
    peer: bool = False
    sample_s: float = 0.25


class Run:
    """The processes and names of one run.

    `offered` grows while the generator plays: pairs of a time in microseconds and the messages
    offered until then. `begun` is set with the first message.
    """

    def __init__(self, brokers: Brokers, plan: Plan, folder: Path, stack: AsyncExitStack) -> None:
        self.plan = plan
        self.offered: list[tuple[int, int]] = []
        self.begun = asyncio.Event()
        self.exchange: Child
        self.symbols: list[str] = []
        self._port = 0
        self._brokers = brokers
        self._prefix = f"bench{uuid4().hex[:8]}"
        self._folder = folder
        self._stack = stack
        self._bridges: list[Child] = []
        self._listeners: dict[str, Child] = {}
        self._viewers: Child | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, brokers: Brokers, plan: Plan) -> AsyncIterator["Run"]:
        """Start the generator, create the topics, and start the listeners."""
        with tempfile.TemporaryDirectory() as folder:
            async with AsyncExitStack() as stack:
                run = cls(brokers, plan, Path(folder), stack)
                stack.push_async_callback(run.clean_up)
                await run.start_exchange()
                await create_topics(brokers.kafka, run.topics())
                for kind in plan.listeners:
                    await run.start_listener(kind)
                yield run

    def topics(self) -> list[str]:
        """Return the topics that the events go to."""
        kinds = [stream_of("any", kind).message_type for kind in self.plan.load.streams]
        return [topic_name(self._topic, SPOT, kind) for kind in kinds]

    @property
    def _topic(self) -> str:
        return self._prefix + ".{venue}.{message_type}"

    async def start_exchange(self) -> None:
        words = ("bridge.tools.bench.load_generator", msgspec.json.encode(self.plan.load).decode())
        self.exchange = await self._stack.enter_async_context(python(self._folder, *words))
        opening = msgspec.json.decode(await self.exchange.line(), type=Opening)
        self._port, self.symbols = opening.port, opening.symbols
        reading = asyncio.create_task(self._read_progress())
        self._stack.push_async_callback(_cancelled, reading)

    async def start_listener(self, kind: str) -> None:
        address, names = {
            "kafka": (self._brokers.kafka, ",".join(self.topics())),
            "redis": (self._brokers.redis, f"{SPOT}.*"),
            "prices": (self._brokers.redis, latest_key(SPOT, self.symbols[0])),
        }[kind]
        file = str(self._folder / f"{kind}.pairs")
        words = ("bridge.tools.bench.listen", kind, address, names, file)
        child = await self._stack.enter_async_context(python(self._folder, *words))
        await child.line()
        self._listeners[kind] = child

    async def start_bridges(self) -> list[int]:
        """Start the bridges, each of which gets a shard. Return their HTTP ports."""
        if self.plan.peer:
            ports = [await self._start_peer()]
        else:
            ports = [await self.start_bridge() for _ in range(self.plan.bridges)]
        async with aiohttp.ClientSession() as session:
            await _until_ready(self, session, ports)
        if self.plan.viewers:
            words = ("bridge.tools.bench.viewers", str(ports[0]), str(self.plan.viewers))
            self._viewers = await self._stack.enter_async_context(python(self._folder, *words))
            await self._viewers.line()
        return ports

    async def start_bridge(self) -> int:
        port = free_port()
        settings = self._folder / f"bridge-{port}.yaml"
        settings.write_text(json.dumps(self._settings(port)))  # JSON is YAML
        words = ("bridge", "run", "--config", str(settings))
        child = await self._stack.enter_async_context(python(self._folder, *words, says=False))
        self._bridges.append(child)
        return port

    async def _start_peer(self) -> int:
        port, streams = free_port(), self.plan.load.streams
        names = "/".join(f"{symbol.lower()}@{kind}" for symbol in self.symbols for kind in streams)
        url = f"ws://127.0.0.1:{self._port}/stream?streams={names}"
        topic = topic_name(self._topic, SPOT, peer.KIND)
        settings = self._folder / "peer.yaml"
        options = peer.settings(url, self._brokers.kafka, self._brokers.redis, topic, port)
        settings.write_text(json.dumps(options))
        words = (peer.PROGRAM, "-c", str(settings))
        child = await self._stack.enter_async_context(program(self._folder, *words, says=False))
        self._bridges.append(child)
        return port

    async def publish_bare(self, rate: int, seconds: float) -> Span:
        """Publish events with the bare libraries, in the place of a bridge."""
        brokers, topic = self._brokers, self.topics()[0]
        words = (brokers.kafka, brokers.redis, topic, str(rate), str(seconds))
        name = "bridge.tools.bench.bare_publisher"
        async with python(self._folder, name, *words) as child:
            return msgspec.json.decode(await child.line(), type=Span)

    def check(self) -> None:
        """Raise BenchFailed if any process has exited."""
        viewers = [self._viewers] if self._viewers else []
        for child in (self.exchange, *self._bridges, *self._listeners.values(), *viewers):
            child.check()

    async def stop_listeners(self) -> dict[str, Delays]:
        """Stop the listeners, and return the delays that each one measured."""
        heard = {}
        for kind, child in self._listeners.items():
            await child.stop()
            pairs = array("q")
            pairs.frombytes((self._folder / f"{kind}.pairs").read_bytes())
            heard[kind] = Delays(pairs[::2], pairs[1::2])
        return heard

    async def stop_viewers(self) -> float:
        """Stop the viewers, and return the frames that each one got a second; 0 without any."""
        if self._viewers is None:
            return 0.0
        self._viewers.terminate()
        return float(await self._viewers.line())

    async def clean_up(self) -> None:
        await remove_traces(self._brokers, self._prefix, self.symbols)

    async def _read_progress(self) -> None:
        while True:
            progress = msgspec.json.decode(await self.exchange.line(), type=Progress)
            self.offered.append((progress.at_us, progress.offered))
            if progress.offered:
                self.begun.set()

    def _settings(self, port: int) -> dict[str, object]:
        here = f"127.0.0.1:{self._port}"
        return {
            "binance": {
                "symbols": self.symbols,
                "streams": list(self.plan.load.streams),
                "websocket_url": f"ws://{here}",
                "rest_url": f"http://{here}",
                "compression": self.plan.wire.compression,
                "transport": self.plan.wire.transport,
                "proxy": "none",
            },
            "kafka": {"bootstrap_servers": self._brokers.kafka, "topic": self._topic},
            "redis": {"url": self._brokers.redis},
            "http": {"port": port},
            "cluster": {"shards": self.plan.bridges, "group": self._prefix},
        }


async def _until_ready(run: Run, session: aiohttp.ClientSession, ports: list[int]) -> None:
    """Wait until every bridge is ready, or listens and the load has begun.

    A bridge may report ready late: a stream may send its first event late.
    """
    path = peer.READY_PATH if run.plan.peer else READY_PATH
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                run.check()
                found = [await is_ready(session, port, path) for port in ports]
                if all(found) or (run.begun.is_set() and None not in found):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BenchFailed(f"the bridges are not ready after {START_TIMEOUT_S:g} s") from None


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait((task,))
