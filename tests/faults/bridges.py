"""The bridges of a scenario. Each is a process of its own, started as a user starts it."""

import asyncio
import re
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.errors import BridgeUnavailable
from bridge.monitoring.cluster import ClusterShard, read_cluster
from bridge.settings import Cluster
from bridge.settings import Kafka as KafkaSettings
from tests.support.bridge_process import SHOWN, BridgeProcess, running_bridge

# Timeout for a server to come back, for a bridge to connect, or for a shard to get its bridges.
PATIENCE_S = 60.0
LOOK_S = 0.2

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Bridges:
    """The bridges of a scenario, by number. `settings` returns the settings of each number.

    `lives` has all processes so far, `last` the last one of each number. `peak_kib` is the largest
    peak memory of a bridge. The clock of every second bridge is ahead by `clock_ahead_s`.
    """

    def __init__(
        self,
        folder: Path,
        settings: Callable[[int], dict[str, Any]],
        options: KafkaSettings,
        clock_ahead_s: float,
    ) -> None:
        self.lives: list[BridgeProcess] = []
        self.last: dict[int, BridgeProcess] = {}
        self.peak_kib = 0
        self._folder = folder
        self._settings = settings
        self._options = options
        self._clock_ahead_s = clock_ahead_s
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def running(self) -> list[BridgeProcess]:
        """Return the last process of each number, if it has not ended."""
        return [each for each in self.last.values() if each.process.returncode is None]

    async def start(self, number: int = 0) -> BridgeProcess:
        """Start a bridge, and return when it has a connection to the exchange."""
        folder = self._folder / f"bridge-{number}"
        folder.mkdir(exist_ok=True)
        ahead_s = self._clock_ahead_s if number % 2 else 0.0
        running = running_bridge(folder, self._settings(number), clock_ahead_s=ahead_s)
        bridge = self.last[number] = await self._stack.enter_async_context(running)
        self.lives.append(bridge)
        await bridge.logged("connection_open", PATIENCE_S)
        return bridge

    async def end(self, how: signal.Signals, number: int = 0) -> None:
        """Send a bridge a signal, and check its exit code."""
        self.note_memory()
        assert await self.last[number].stop(how) == (0 if how == signal.SIGTERM else -how)

    async def stop(self) -> list[int]:
        """Stop the bridges one after the other, and return their exit codes."""
        self.note_memory()
        return [await bridge.stop() for bridge in self.running]

    async def shards(self) -> list[ClusterShard]:
        """Wait until each shard has an owner and a standby, and return the shards."""
        wrong = ["nothing is known of them"]
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with suppress(BridgeUnavailable):
                        found = await read_cluster(self._options, Cluster(standby=1))
                        if not (wrong := found.wrong):
                            return found.shards
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as error:
            last = {number: bridge.log[-SHOWN:] for number, bridge in self.last.items()}
            raise TimeoutError(f"the shards: {wrong}, and the bridges: {last}") from error

    def note_memory(self) -> None:
        """Note the peak memory of the bridges that run."""
        for bridge in self.running:
            status = Path(f"/proc/{bridge.process.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                self.peak_kib = max(self.peak_kib, int(found[1]))

    async def samples(self) -> list[Samples]:
        """Return the metrics of each bridge that runs, by name and labels."""
        return [await _samples(bridge) for bridge in self.running]


async def _samples(bridge: BridgeProcess) -> Samples:
    port = (await bridge.logged("http_listening"))["port"]
    async with aiohttp.request("GET", f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    found = (sample for family in families for sample in family.samples)
    return {(s.name, frozenset(s.labels.items())): s.value for s in found}
