"""The machine and the versions used by a benchmark."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

from bridge.tools.bench.brokers import Brokers
from bridge.tools.bench.results import Machine

LIBRARIES = "tickbridge websockets picows msgspec aiokafka redis hiredis uvloop".split()


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
