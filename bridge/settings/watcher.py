"""The settings while the bridge runs: read again on SIGHUP, and when their file has changed.

The file's folder is watched, not the file: an editor puts another file in its place, and the
kubelet a link beside it, `..data`, through which a mounted ConfigMap changes as a whole. inotify
tells when a file has been written to its end or moved there, so none is read half written. What
changes behind a link to elsewhere, or is mounted as a single file (`subPath`), is not noticed.
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
    """Where settings come from. A context manager: watched from its making on, so that no change
    after `load` is missed. From its entry on SIGHUP ends nothing, neither before the bridge runs
    nor while it drains.
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
        """The settings as they are now. Raises SettingsError."""
        return load_settings(self._config)

    async def read(self) -> Settings:
        """The same, beside the event loop: a long file takes a while."""
        return await asyncio.to_thread(self.load)

    @contextmanager
    def noticed(self, notice: Callable[[], None]) -> Iterator[None]:
        """Within it, `notice` is called when the settings are to be read again."""
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
            self._warn("its folder is gone")
        if any(self._is_ours(event.name) or event.mask & flags.Q_OVERFLOW for event in events):
            notice()

    def _is_ours(self, name: str) -> bool:
        return self._path is not None and name in {self._path.name, _MOUNTED}

    def _warn(self, error: str) -> None:
        log.warning(
            "settings_not_watched",
            file=str(self._path),
            error=error,
            remedy="after a change of it send SIGHUP",
        )


def _watch(folder: Path) -> INotify:
    try:
        inotify = INotify()
    except AttributeError as error:  # a system that is no Linux
        raise OSError("this system has no inotify") from error
    try:
        inotify.add_watch(folder, _WHOLE)
    except OSError:
        inotify.close()
        raise
    return inotify
