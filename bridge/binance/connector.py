"""One leg over its whole life: a set of streams, and one connection after another that has them.

A connection that is to be replaced (its time has come, the exchange has announced its end, it is
silent, the streams have changed) stays until the new one has brought all that it had brought and is
still wanted, or for a bounded overlap.
"""

import asyncio
from collections.abc import Iterable
from enum import StrEnum

import structlog

from bridge import settings
from bridge.binance.connection import Session
from bridge.binance.coverage import Cover, Place
from bridge.binance.health import Watchman
from bridge.binance.rate_limit import Gate
from bridge.core.model.stream import Stream
from bridge.core.policy.rotation import OVERLAP_S, may_close
from bridge.core.sequencing.arrivals import Arrivals
from bridge.errors import FeedRefused, FeedUnavailable, ReconnectCause
from bridge.retry import Backoff, forever

# A leg that has worked and is then refused (a firewall's mood, a region's block) tries again this
# rarely; the other legs go on.
REFUSED_RETRY_S = 300.0
# The new connection, and two that it replaces: of streams that have changed twice in a moment each
# old one may bring what the other does not.
MAX_SESSIONS = 3
# The leg's one timer: what is silent, too old or no longer needed is found within so long.
LOOK_S = 2.0
_REPLACED = frozenset[ReconnectCause](("server_shutdown", "rotation", "silent", "changed"))

log = structlog.get_logger(__name__)


class State(StrEnum):
    """What a leg is doing."""

    CONNECTING = "connecting"
    OPEN = "open"
    REFUSED = "refused"


class Leg:
    """Keeps the streams of its cover connected until it is cancelled.

    `label` tells it from the other leg with the same streams. The exchange `has_accepted` us where
    other legs have run before: a refusal of this one ends nothing then.
    """

    def __init__(
        self,
        place: Place,
        cover: Cover,
        options: settings.Binance,
        gate: Gate,
        *,
        has_accepted: bool = False,
    ) -> None:
        self.name = f"leg-{place.part + 1}" + (place.label if len(cover.labels) > 1 else "")
        self.label = place.label
        self.place = place
        self.cover = cover
        self.sessions: list[Session] = []
        self.arrivals = Arrivals()
        self._options = options
        self._gate = gate
        self._backoff = Backoff(options.reconnect_max_delay_s)
        self._past: dict[str, int] = {}
        self._is_refused = False
        self._has_accepted = has_accepted
        self._reported: list[Stream] = []
        self._log = log.bind(leg=self.name)
        self._watchman = Watchman(cover, options, place, self._log)

    @property
    def streams(self) -> list[Stream]:
        """What it is to bring."""
        return self.cover.streams

    @property
    def state(self) -> State:
        """What it is doing."""
        if self.sessions:
            return State.OPEN
        return State.REFUSED if self._is_refused else State.CONNECTING

    async def run(self) -> None:
        """Connect, stay, and connect again, for ever.

        Raises FeedRefused if the exchange refuses what the settings ask for, unless it has once
        accepted it.
        """
        try:
            async for attempt in forever(self._backoff, FeedUnavailable, on_retry=self._on_retry):
                with attempt:
                    await self._turn()
        finally:
            await asyncio.gather(*(session.close() for session in self.sessions))

    def last_received(self) -> dict[str, int]:
        """Of each of its streams that has ever been heard, when last, in microseconds since the
        epoch.
        """
        latest = self._past
        for session in self.sessions:
            latest = later(latest, session.decoder.last_received())
        return {s.name: latest[s.name] for s in self.streams if s.name in latest}

    def silent(self) -> list[str]:
        """The streams that have never sent anything."""
        heard = self.last_received()
        return [stream.name for stream in self.streams if stream.name not in heard]

    def overdue(self) -> list[str]:
        """The streams silent for longer than their own rhythm explains."""
        return self._watchman.overdue() if self.sessions else []

    def age_s(self) -> float:
        """The age of its oldest open connection; 0 without one."""
        return max((session.age_s() for session in self.sessions), default=0.0)

    async def _turn(self) -> None:
        """Open a connection beside what is open, and stay until it has to be followed by another.

        Raises FeedUnavailable then.
        """
        await self._gate.wait()
        session = Session(self.label, self.streams, self.cover.pump, self._log)
        session.attach(self.arrivals, self._lost)
        self.cover.opens(session)
        await self._open(session)
        self._take_over(session)
        cause = await self._stay(session)
        if session.decoder.last_received():
            self._backoff.worked()
        why = session.ending if session.over.is_set() else cause
        raise FeedUnavailable(f"{self._options.websocket_url} {why}", cause=cause)

    async def _open(self, session: Session) -> None:
        self._is_refused = False
        try:
            await session.open(self._options)
        except FeedRefused as error:
            if not self._has_accepted:
                raise
            self._is_refused = True
            raise FeedUnavailable(str(error), REFUSED_RETRY_S, cause="refused") from error

    def _take_over(self, session: Session) -> None:
        """Count a connection that has just opened; it may be gone already."""
        self._has_accepted = True
        self._log.info("leg_open", streams=len(session.streams))
        if not session.is_lost:
            self.sessions.append(session)
            self.cover.opened(session)
        self._watchman.begin(session)
        self._compare()

    async def _stay(self, session: Session) -> ReconnectCause:
        """Until the connection is over or should be replaced; says why."""
        while len(self.sessions) > MAX_SESSIONS:
            await self._close(min(self.sessions[:-1], key=self._brought_alone))
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await session.over.wait()
            except TimeoutError:
                await self._end_overlap(session)
                self._report_silent(session)
                if cause := self._watchman.look(session):
                    return cause
            else:
                return session.cause

    async def _end_overlap(self, session: Session) -> None:
        """Close the connection that this one replaces, when it may go; and wait for no other any
        longer.
        """
        if session.age_s() >= OVERLAP_S:
            session.joined("overtaken")
        heard = session.decoder.last_received()
        for old in [old for old in self.sessions if old is not session]:
            wanted = self._wanted(old.decoder.last_received())
            if may_close(wanted, heard, session.age_s()):
                await self._close(old)

    def _brought_alone(self, session: Session) -> int:
        """How many of the streams have come over this connection and over no other."""
        others = (one.decoder.last_received() for one in self.sessions if one is not session)
        return len(self._wanted(session.decoder.last_received()) - set().union(*others))

    def _wanted(self, names: Iterable[str]) -> set[str]:
        """Of these streams those that are still to be brought."""
        return {stream.name for stream in self.streams}.intersection(names)

    async def _close(self, session: Session) -> None:
        await session.close()
        self._lost(session)

    def _lost(self, session: Session) -> None:
        """A connection is gone, whoever ended it."""
        self._past = self.last_received()
        if session in self.sessions:
            self.sessions.remove(session)
        self.cover.lost(session)
        self._compare()

    def _compare(self) -> None:
        """While a leg has two connections, a repeat does not tell which leg was first."""
        self.arrivals.compares = len(self.cover.labels) > 1 and len(self.sessions) == 1

    def _report_silent(self, session: Session) -> None:
        """Name the streams that miss their first-message deadline."""
        deadline_s = self._options.first_message_timeout_s
        if self._reported is self.streams or session.age_s() < deadline_s:
            return
        self._reported = self.streams
        for name in self.silent():
            self._log.warning(
                "stream_silent",
                stream=name,
                waited_s=deadline_s,
                remedy="a quiet market, or a name the exchange does not know: check it",
            )

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        assert isinstance(error, FeedUnavailable)  # noqa: S101  # the one that is retried
        self.cover.pump.counts.reconnects[error.cause] += 1
        if error.cause == "quiet":
            self._gate.close_for(error.retry_after_s or 0.0)
        if error.cause in _REPLACED:
            self._log.info("leg_replacing", cause=error.cause, retry_in_s=round(delay_s, 2))
        else:
            self._log.warning("leg_down", error=str(error), retry_in_s=round(delay_s, 2))


def later(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Of each stream the later of two times; those of one alone as they are."""
    if not one or not other:
        return one or other
    both = one.keys() & other.keys()
    return one | other | {name: max(one[name], other[name]) for name in both}
