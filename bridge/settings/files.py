"""Reads the files that a user names. They must be regular files, and not too large."""

import errno
import os
import stat
from pathlib import Path


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the contents of a file; those of `/dev/null` are empty. Raises OSError, also if it is
    a pipe or another device, which may never end, or if it has more than `max_bytes`.
    """
    # Without O_NONBLOCK the opening of a pipe waits for a writer.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        is_null = os.path.samestat(found, os.stat(os.devnull))  # noqa: PTH116 - two files compared
        if not (stat.S_ISREG(found.st_mode) or is_null):
            raise OSError(errno.EINVAL, "not a regular file")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"more than {max_bytes} bytes")
    return data
