"""The folder of an export: its lock, its manifest and its files, which appear only when whole."""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Self

import msgspec

from bridge.core.model.unreadable import UNREADABLE
from bridge.tools.export.errors import ExportFailed, ExportRefused, PartDamaged
from bridge.tools.export.manifest import Manifest, Options, Part

MANIFEST = "manifest.json"
_UNFINISHED = ".tmp"
_ANOTHER = "use another folder"

_decode = msgspec.json.Decoder(Manifest).decode


class Folder:
    """A context manager: creates the folder, and holds its lock.

    Raises ExportRefused if another export holds the lock, and ExportFailed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ExportFailed(self.path, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            remedy = f"wait until it ends, or {_ANOTHER}"
            raise ExportRefused(self.path, "is in use by another export", remedy) from error
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._lock)

    def manifest(self, wanted: Options, version: str) -> Manifest | None:
        """Return the manifest of an earlier run; None if the folder is empty.

        Raises ExportRefused if that run had other options or was of another version, or if the
        folder has other files.
        """
        path = self.path / MANIFEST
        if not path.exists():
            self._check_empty()
            return None
        try:
            found = _decode(path.read_bytes())
        except OSError as error:
            raise ExportFailed(path, error) from error
        except UNREADABLE as error:
            raise ExportRefused(path, f"cannot be read: {error}", _ANOTHER) from error
        differences = found.options.differences(wanted)
        if found.version != version and not found.complete:
            differences.append(f"version is {found.version}, not {version}")
        if differences:
            what = f"has an export with other options: {'; '.join(differences)}"
            raise ExportRefused(self.path, what, f"repeat that command, or {_ANOTHER}")
        return found

    def save(self, manifest: Manifest) -> None:
        """Write the manifest. Raises ExportFailed."""
        self._write(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")

    def write_part(self, part: Part, content: memoryview) -> None:
        """Write the file of a part, and note its size and checksum. Raises ExportFailed."""
        part.bytes = len(content)
        part.sha256 = hashlib.sha256(content).hexdigest()
        self._write(part.file, content)

    def has(self, part: Part) -> bool:
        return (self.path / part.file).exists()

    def check(self, part: Part) -> None:
        """Raise PartDamaged if the file of a part is not what was written, and ExportFailed."""
        path = self.path / part.file
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ExportFailed(path, error) from error
        if found != part.sha256:
            raise PartDamaged(path)

    def _check_empty(self) -> None:
        # A run that was killed may have left the beginning of its first file.
        if any(each.suffix != _UNFINISHED for each in self.path.iterdir()):
            raise ExportRefused(self.path, f"has files, but no {MANIFEST}", _ANOTHER)

    def _write(self, name: str, content: bytes | memoryview) -> None:
        path = self.path / name
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            path.parent.mkdir(exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            raise ExportFailed(path, error) from error
