"""A disk that is full soon: a file system in memory with a small size."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_S = 30
# Errors of mount(8) if mounting is not permitted or not possible.
_REFUSED = (OSError, subprocess.CalledProcessError)

# With the files of others the disk is as large as `spill_max_bytes`, as the settings require.
OTHERS_MIB = 64


@contextmanager
def small_disk(folder: Path, max_mib: int) -> Iterator[bool]:
    """Make a folder that holds at most `max_mib` MiB besides the files of others, and unmount it
    afterwards.

    Mounting needs Linux and root. Yields whether it was possible; if not, the folder is as large as
    the disk on which it lies.
    """
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={max_mib + OTHERS_MIB}m", "tmpfs", str(folder))
    except _REFUSED:
        yield False
        return
    try:
        (folder / "of_others").write_bytes(bytes(OTHERS_MIB * 2**20))
        yield True
    finally:
        _run("umount", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
