"""The memory and the disk that a bridge may fill."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from pydantic import ByteSize

# What a bridge takes apart from the records that wait (docs/guides/scale.md).
PROCESS_BYTES = 80 * 2**20
# Kernel documentation, cgroup-v2: `memory.max`; cgroup-v1: `memory.limit_in_bytes`.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """Return the memory that this process may use: that of the container, or of the machine."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # "max" means no limit
            found.append(int(Path(path).read_text(encoding="ascii")))
    return min(found)


def disk_bytes(folder: Path) -> int:
    """Return the size of the disk on which a folder is, or will be. Raises OSError."""
    return shutil.disk_usage(folder if folder.exists() else folder.parent).total


def room_bytes(folder: Path) -> int:
    """Return how large the files of a folder may become together. Raises OSError."""
    taken = sum(file.stat().st_size for file in folder.iterdir())
    return shutil.disk_usage(folder).free + taken


def human(size: int) -> str:
    """Return a size as text: `256.0MiB`."""
    return ByteSize(size).human_readable()
