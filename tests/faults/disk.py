"""A disk that is full soon: a file system in memory, of a size of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_S = 30
# What mount(8) says when it may not, or cannot.
_REFUSED = (OSError, subprocess.CalledProcessError)


@contextmanager
def small_disk(folder: Path, max_mib: int) -> Iterator[bool]:
    """Make a folder that takes so many MiB, gone afterwards. Mounting one takes Linux and root:
    gives whether it was possible, else the folder is as large as the disk it lies on.
    """
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={max_mib}m", "tmpfs", str(folder))
    except _REFUSED:
        yield False
        return
    try:
        yield True
    finally:
        _run("umount", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
