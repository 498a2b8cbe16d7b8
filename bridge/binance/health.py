"""Who looks after a leg's connection: when it is too old, or silent, or has
other streams than it should, it has to be replaced.
"""

import asyncio
import time

import structlog

from bridge import settings
from bridge.binance.connection import Session
from bridge.binance.coverage import Cover, Place
from bridge.core.policy.rotation import may_rotate, rotate_after_s
from bridge.core.policy.silence import Silence, Watch
from bridge.errors import ReconnectCause

# Of a silence, so many streams are named in the log.
NAMED_MAX = 10


class Watchman:
    """One for each leg, over all its connections."""

    def __init__(
        self,
        cover: Cover,
        options: settings.Binance,
        place: Place,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._cover = cover
        self._options = options
        self._place = (place.slot, place.parts * len(cover.labels))
        self._log = log
        self._watch = Watch(0.0)
        self._rotate_at_s = 0.0

    def begin(self, session: Session) -> None:
        """A connection has just opened."""
        options = self._options
        age_s = rotate_after_s(
            self._place, options.max_leg_age_s, time.time(), options.rotation_time_s
        )
        self._rotate_at_s = session.opened_s + age_s
        self._watch.begin(session.opened_s, session.streams)

    def look(self, session: Session) -> ReconnectCause | None:
        """Why the connection should be replaced now, if it should."""
        now_s = asyncio.get_running_loop().time()
        silence = self._watch.look(now_s, session.frames_received, session.decoder.last_received())
        if silence is not None:
            self._on_silence(session, silence, now_s - silence.silent_s)
            return "silent"
        # Not one leg of a pair after the other: apart in their streams they cannot join well.
        if self._cover.is_outdated(session):
            return "changed"
        overdue_s = now_s - self._rotate_at_s
        return "rotation" if may_rotate(overdue_s, self._cover.counts(session.leg)) else None

    def overdue(self) -> list[str]:
        """The streams silent for longer than their own rhythm explains."""
        return self._watch.overdue(asyncio.get_running_loop().time())

    def _on_silence(self, session: Session, silence: Silence, since_s: float) -> None:
        session.is_silent = silence.whole
        self._cover.silent(session, silence.streams, since_s)
        self._log.warning(
            "leg_silent" if silence.whole else "streams_silent",
            streams=silence.streams[:NAMED_MAX],
            count=len(silence.streams),
            silent_s=round(silence.silent_s, 1),
        )
