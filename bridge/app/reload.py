"""Puts changed settings into effect while the bridge runs.

Changed symbols and streams take effect at once. All other settings take effect at the next start,
and the log names them. Settings that cannot be read or are refused change nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from bridge.core.binance.subscription import Change
from bridge.errors import FeedRefused, SettingsError, SinkRefused, SinkUnavailable
from bridge.settings import Settings, waiting_for_a_restart, with_streams_of
from bridge.telemetry import Reloads

log = structlog.get_logger(__name__)


class Source(Protocol):
    """The source of settings, which reports when to read them again."""

    async def read(self) -> Settings:
        """Return the present settings. Raises SettingsError."""
        ...

    def noticed(self, notice: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `notice` when the settings must be read again, while the context is open."""
        ...


class Reloader:
    """Reads the settings again, once for any number of notices, and applies them with
    `set_streams`.

    `set_streams` raises FeedRefused, SettingsError, SinkRefused or SinkUnavailable if it has
    changed nothing.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        set_streams: Callable[[Settings], Awaitable[Change]],
        reloads: Reloads,
    ) -> None:
        self._settings = settings
        self._source = source
        self._set_streams = set_streams
        self._reloads = reloads
        self._noticed = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled."""
        with self._source.noticed(self._noticed.set):
            while True:
                await self._noticed.wait()
                self._noticed.clear()
                await self._reload()

    async def _reload(self) -> None:
        try:
            read = await self._source.read()
        except SettingsError as error:
            log.error("settings_invalid", error=str(error))  # noqa: TRY400 - the text is enough
            self._reloads.count("invalid")
            return
        self._reloads.waiting = waiting_for_a_restart(self._settings, read)
        if self._reloads.waiting:
            log.warning("settings_need_restart", settings=self._reloads.waiting)
        settings = with_streams_of(self._settings, read)
        try:
            change = await self._set_streams(settings)
        except (FeedRefused, SettingsError, SinkRefused, SinkUnavailable) as error:
            log.error("settings_refused", error=str(error))  # noqa: TRY400
            self._reloads.count("refused")
            return
        self._settings = settings
        self._reloads.count("changed" if any(change) else "unchanged")
        log.info("settings_read", **change.summary())
