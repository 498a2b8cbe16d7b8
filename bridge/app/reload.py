"""Settings that have changed under way: read again, checked, and put in force as far as can be.

Symbols and streams are; everything else counts from the next start, and is named. What cannot be
read, or is refused, changes nothing.
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

# Of added and removed streams, so many are named in the log.
NAMED_MAX = 20

log = structlog.get_logger(__name__)


class Source(Protocol):
    """Where settings come from, and who says when to read them again."""

    async def read(self) -> Settings:
        """The settings as they are now. Raises SettingsError."""
        ...

    def noticed(self, notice: Callable[[], None]) -> AbstractContextManager[None]:
        """Within it, `notice` is called when they are to be read again."""
        ...


class Reloader:
    """Reads the settings again, once for any number of notices, and has `change` put them in force.

    `change` raises FeedRefused, SettingsError, SinkRefused or SinkUnavailable where it has changed
    nothing.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        change: Callable[[Settings], Awaitable[Change]],
        reloads: Reloads,
    ) -> None:
        self._settings = settings
        self._source = source
        self._change = change
        self._reloads = reloads
        self._noticed = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        with self._source.noticed(self._noticed.set):
            while True:
                await self._noticed.wait()
                self._noticed.clear()
                await self._reload()

    async def _reload(self) -> None:
        try:
            read = await self._source.read()
        except SettingsError as error:
            log.error("settings_invalid", error=str(error))  # noqa: TRY400 - the words say it
            self._reloads.count("invalid")
            return
        self._reloads.waiting = waiting_for_a_restart(self._settings, read)
        if self._reloads.waiting:
            log.warning("settings_need_restart", settings=self._reloads.waiting)
        settings = with_streams_of(self._settings, read)
        try:
            change = await self._change(settings)
        except (FeedRefused, SettingsError, SinkRefused, SinkUnavailable) as error:
            log.error("settings_refused", error=str(error))  # noqa: TRY400
            self._reloads.count("refused")
            return
        self._settings = settings
        self._reloads.count("changed" if any(change) else "unchanged")
        log.info(
            "settings_read",
            added=change.added[:NAMED_MAX],
            removed=change.removed[:NAMED_MAX],
            streams_added=len(change.added),
            streams_removed=len(change.removed),
        )
