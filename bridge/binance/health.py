"""Decides when a connection must be replaced: it is too old, stalled, or has outdated streams."""

import asyncio
import time

import structlog

from bridge import settings
from bridge.binance.connection import Connection
from bridge.binance.coverage import Coverage, Slot
from bridge.core.policy.rotation import may_rotate, rotate_after_s
from bridge.core.policy.silence import Silence, SilenceDetector
from bridge.errors import ReconnectCause

# How many streams a log entry names.
NAMED_MAX = 10


class HealthMonitor:
    """Watches the connections of one connector, one after another."""

    def __init__(
        self,
        coverage: Coverage,
        options: settings.Binance,
        slot: Slot,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._coverage = coverage
        self._options = options
        self._slot = (slot.rotation_order, slot.bundles * len(coverage.lines))
        self._log = log
        self._watch = SilenceDetector(0.0)
        self._rotate_at_s = 0.0

    def begin(self, connection: Connection) -> None:
        """Start to watch a connection that has just opened."""
        options = self._options
        age_s = rotate_after_s(
            self._slot, options.connection_max_age_s, time.time(), options.rotation_time_s
        )
        self._rotate_at_s = connection.opened_s + age_s
        self._watch.begin(connection.opened_s, connection.streams)

    def look(self, connection: Connection) -> ReconnectCause | None:
        """Return why the connection must be replaced now, or None."""
        now_s = asyncio.get_running_loop().time()
        silence = self._watch.look(
            now_s, connection.frames_received, connection.decoder.last_received()
        )
        if silence is not None:
            self._on_silence(connection, silence, now_s - silence.silent_s)
            return "stalled"
        # Both lines change at once: a handover between different sets of streams works badly.
        if self._coverage.is_outdated(connection):
            return "streams_changed"
        overdue_s = now_s - self._rotate_at_s
        return (
            "rotation"
            if may_rotate(overdue_s, self._coverage.open_on_other_lines(connection.line))
            else None
        )

    def stalled(self) -> list[str]:
        """Return the streams that are silent for longer than their usual interval explains."""
        return self._watch.stalled(asyncio.get_running_loop().time())

    def _on_silence(self, connection: Connection, silence: Silence, since_s: float) -> None:
        connection.is_stalled = silence.whole
        self._coverage.mark_stalled(connection, silence.streams, since_s)
        self._log.warning(
            "connection_stalled" if silence.whole else "streams_stalled",
            streams=silence.streams[:NAMED_MAX],
            count=len(silence.streams),
            silent_s=round(silence.silent_s, 1),
        )
