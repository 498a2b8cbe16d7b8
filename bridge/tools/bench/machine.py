"""The machine and the versions used by a benchmark, and whether the machine is fit for a run.

A virtual machine shares its host. Its speed may halve within minutes, and other processes may take
its cores. Neither says anything about the bridge.
"""

import asyncio
import os
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bridge.tools.bench.brokers import Brokers
from bridge.tools.bench.results import Machine
from bridge.tools.bench.stages import ROUNDS, Material, material, record_floor
from bridge.tools.bench.workload import Load

# The cost of `record_floor` with invented frames, on the machine that the targets were set on, and
# how much slower a machine may be for a run to count.
REFERENCE_US = 0.65
SLOWER_MAX = 1.15
# The part of all cores that other processes may use, and that the host may take away.
BUSY_MAX = 0.1
IDLE_S = 1.0
REFERENCE_FRAMES = 20_000
LIBRARIES = "tickbridge websockets picows msgspec aiokafka redis hiredis uvloop".split()


class Times(NamedTuple):
    """The CPU times of all cores since the start of the system, in ticks."""

    total: int
    idle: int
    stolen: int


class Fitness:
    """Watches the machine around one run.

    `fault` says after `end` why the figures of the run do not count; it is empty if they do.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.speeds_us: list[float] = []

    async def begin(self) -> None:
        """Measure the speed, and what other processes use while nothing of ours runs."""
        before = cpu_times()
        await asyncio.sleep(IDLE_S)
        self._begun = cpu_times()
        self._check_share("other processes use", _busy_share(before, self._begun))
        await self._check_speed()

    async def end(self) -> None:
        """Measure the speed again, and what the host has taken away during the run."""
        await self._check_speed()
        self._check_share("the host takes away", _stolen_share(self._begun, cpu_times()))

    async def _check_speed(self) -> None:
        self.speeds_us.append(await record_floor(_reference(), ROUNDS))
        if (slower := self.speeds_us[-1] / REFERENCE_US) > SLOWER_MAX:
            self.fault = f"the machine is {slower:.2f} times as slow as the reference"

    def _check_share(self, what: str, share: float) -> None:
        if share > BUSY_MAX:
            self.fault = f"{what} {share:.0%} of the cores"


@cache
def _reference() -> Material:
    return material(Load(), REFERENCE_FRAMES)


def cpu_times() -> Times:
    """Read the CPU times of the machine; zeros where the system does not tell them."""
    try:
        first, *_ = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return Times(0, 0, 0)
    ticks = [int(word) for word in first.split()[1:]]
    return Times(sum(ticks[:8]), ticks[3] + ticks[4], ticks[7])


def _busy_share(before: Times, now: Times) -> float:
    return 1 - (now.idle - before.idle) / max(1, now.total - before.total) if now.total else 0.0


def _stolen_share(before: Times, now: Times) -> float:
    return (now.stolen - before.stolen) / max(1, now.total - before.total)


def machine() -> Machine:
    """Return the description of this machine, with its current load average."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory_bytes / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        load_average=round(os.getloadavg()[0], 2),
    )


def versions(brokers: Brokers | None) -> dict[str, str]:
    """Return the versions of Python, of the libraries of the hot path, and of the brokers."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | (
        {"kafka": brokers.kafka_is, "redis server": brokers.redis_is} if brokers else {}
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()
