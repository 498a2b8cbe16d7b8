"""Reload of the settings while the bridge runs: on SIGHUP, and when their file changes.

The folder of the file is watched, not the file itself. An editor replaces the file. For a mounted
ConfigMap, the kubelet replaces the link `..data` in the same folder, which changes all files at
once. inotify reports a file after it was written completely or moved into the folder, so no file is
read half written. Two changes are not noticed: those of a file that a link to another folder leads
to, and those of a file that is mounted alone (`subPath`).
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import structlog
from inotify_simple import INotify, flags

from bridge.settings import Settings, load_settings, settings_file

_WHOLE = flags.CLOSE_WRITE | flags.MOVED_TO
_MOUNTED = "..data"

log = structlog.get_logger(__name__)


class SettingsFile:
    """The settings and the changes of their file. A context manager.

    The file is watched from construction on, so that no change after `load` is missed. From entry
    on, SIGHUP does not stop the process, neither before the bridge runs nor while it drains.
    """

    def __init__(self, config: Path | None = None) -> None:
        self._config = config
        self._path = settings_file(config)
        self._failure: OSError | None = None
        try:
            self._inotify = None if self._path is None else _watch(self._path.parent)
        except OSError as error:
            self._inotify, self._failure = None, error

    def __enter__(self) -> Self:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def load(self) -> Settings:
        """Return the current settings. Raises SettingsError."""
        return load_settings(self._config)

    async def read(self) -> Settings:
        """Return the current settings like `load`, in a thread: a long file takes a while."""
        return await asyncio.to_thread(self.load)

    @contextmanager
    def noticed(self, notice: Callable[[], None]) -> Iterator[None]:
        """Call `notice` whenever the settings have to be reloaded, while the context is open."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, notice)
        if self._inotify is not None:
            loop.add_reader(self._inotify, self._look, self._inotify, notice)
        elif self._failure is not None:
            self._warn(str(self._failure))
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            if self._inotify is not None:
                loop.remove_reader(self._inotify)

    def _look(self, inotify: INotify, notice: Callable[[], None]) -> None:
        events = list(inotify.read(timeout=0))
        if any(event.mask & flags.IGNORED for event in events):
            self._warn("its folder no longer exists")
        if any(self._is_ours(event.name) or event.mask & flags.Q_OVERFLOW for event in events):
            notice()

    def _is_ours(self, name: str) -> bool:
        return self._path is not None and name in {self._path.name, _MOUNTED}

    def _warn(self, error: str) -> None:
        log.warning(
            "settings_not_watched",
            file=str(self._path),
            error=error,
            remedy="send SIGHUP after each change of the file",
        )


def _watch(folder: Path) -> INotify:
    try:
        inotify = INotify()
    except AttributeError as error:  # not Linux
        raise OSError("this system has no inotify") from error
    try:
        inotify.add_watch(folder, _WHOLE)
    except OSError:
        inotify.close()
        raise
    return inotify
