"""A connector keeps one bundle connected, with one connection after another.

A connection is replaced because of its age, because the exchange has announced its end, because it
is stalled, or because the streams have changed. It stays open until the new one has brought every
stream that it had brought and that is still wanted, or until a bounded overlap has passed.
"""

import asyncio
import math
from collections.abc import Iterable
from enum import StrEnum

import structlog

from bridge import settings
from bridge.binance.connection import Connection
from bridge.binance.coverage import Coverage, Slot
from bridge.binance.failures import refused_wait_s
from bridge.binance.health import NAMED_MAX, HealthMonitor
from bridge.binance.rate_limit import RateLimiter
from bridge.binance.transport.turns import Turns
from bridge.core.model.stream import Stream
from bridge.core.policy.rotation import OVERLAP_S, may_close
from bridge.core.sequencing.arrivals import Arrivals
from bridge.errors import FeedRefused, FeedUnavailable, ReconnectCause
from bridge.retry import Backoff, forever
from bridge.telemetry import now_us

# The new connection and two that it replaces: when streams change twice within seconds, each old
# connection may carry streams that the other does not.
MAX_CONNECTIONS = 3
# How often a connector looks for connections that are stalled, too old or no longer needed.
LOOK_S = 2.0
_REPLACED = frozenset[ReconnectCause](("server_shutdown", "rotation", "stalled", "streams_changed"))

log = structlog.get_logger(__name__)


class State(StrEnum):
    """What a connector does now."""

    CONNECTING = "connecting"
    OPEN = "open"
    REFUSED = "refused"


class Connector:
    """Keeps the streams of its coverage connected until it is cancelled.

    `has_accepted` says that the exchange has accepted a connection of this process before. Then a
    refusal does not stop the process.
    """

    def __init__(  # noqa: PLR0913 (each is a part of its surroundings)
        self,
        slot: Slot,
        coverage: Coverage,
        options: settings.Binance,
        rate_limiter: RateLimiter,
        turns: Turns,
        *,
        has_accepted: bool = False,
    ) -> None:
        self.name = f"connector-{slot.bundle + 1}" + (slot.line if len(coverage.lines) > 1 else "")
        self.line = slot.line
        self.slot = slot
        self.coverage = coverage
        self.connections: list[Connection] = []
        self.arrivals = Arrivals()
        self._options = options
        self._rate_limiter = rate_limiter
        self._turns = turns
        self._backoff = Backoff(options.reconnect_max_delay_s)
        self._past: dict[str, int] = {}
        # Since the last attempt that was not refused.
        self._refusals = 0
        self.has_accepted = has_accepted
        self._reported: list[Stream] = []
        self._log = log.bind(connector=self.name)
        self._health = HealthMonitor(coverage, options, slot, self._log)

    @property
    def streams(self) -> list[Stream]:
        """Return the streams of its bundle."""
        return self.coverage.streams

    @property
    def state(self) -> State:
        """Return what it does now."""
        if self.connections:
            return State.OPEN
        return State.REFUSED if self._refusals else State.CONNECTING

    async def run(self) -> None:
        """Connect, stay connected, and connect again, until cancelled.

        Raises FeedRefused if the exchange refuses what the settings ask for, unless it has accepted
        a connection before.
        """
        try:
            async for attempt in forever(self._backoff, FeedUnavailable, on_retry=self._on_retry):
                with attempt:
                    await self._turn()
        finally:
            await asyncio.gather(*(connection.close() for connection in self.connections))

    def last_received(self) -> dict[str, int]:
        """Return when each of its streams last sent a frame, in microseconds since the epoch.
        Streams without data are left out.
        """
        latest = self._past
        for connection in self.connections:
            latest = later(latest, connection.decoder.last_received())
        return {s.name: latest[s.name] for s in self.streams if s.name in latest}

    def silent_s(self, *, has_frames: bool = False) -> float:
        """Return the seconds since the last frame, or since the opening of a connection that has
        brought none. With `has_frames` such a connection does not count. Infinite without any.
        """
        heard = [c.received for c in self.connections if c.frames_received or not has_frames]
        return (now_us() - max(heard)) / 1e6 if heard else math.inf

    def without_data(self) -> list[str]:
        """Return the streams that have never sent anything."""
        heard = self.last_received()
        return [stream.name for stream in self.streams if stream.name not in heard]

    def stalled(self) -> list[str]:
        """Return the streams that are silent for longer than their usual interval explains."""
        return self._health.stalled() if self.connections else []

    def age_s(self) -> float:
        """Return the age of its oldest open connection in seconds; 0 without one."""
        return max((connection.age_s() for connection in self.connections), default=0.0)

    async def _turn(self) -> None:
        """Open a further connection, and stay until it must be replaced.

        Raises FeedUnavailable then.
        """
        await self._rate_limiter.wait_for_connection()
        connection = Connection(self.line, self.streams, self.coverage.handler, self._log)
        connection.attach(self.arrivals, self._lost)
        with self.coverage.opening(connection):
            await self._open(connection)
        self._take_over(connection)
        cause = await self._stay(connection)
        if connection.decoder.last_received():
            self._backoff.worked()
        why = connection.ending if connection.over.is_set() else cause
        raise FeedUnavailable(f"{self._options.websocket_url} {why}", cause=cause)

    async def _open(self, connection: Connection) -> None:
        """Open a connection. A refusal ends the process only if no connection was ever accepted:
        later a firewall may refuse this address for a while, and the other connectors continue.
        """
        try:
            await connection.open(self._options, self._turns)
        except FeedRefused as error:
            if not self.has_accepted:
                raise
            raise self._refused(error) from error
        except FeedUnavailable as error:
            if error.cause == "refused":
                raise self._refused(error) from error
            self._refusals = 0
            raise

    def _refused(self, error: FeedRefused | FeedUnavailable) -> FeedUnavailable:
        """Count a refusal; return the error that has the wait before the next attempt."""
        self._refusals += 1
        return FeedUnavailable(str(error), refused_wait_s(self._refusals), cause="refused")

    def _take_over(self, connection: Connection) -> None:
        """Add a connection that has just opened, unless it is closed already."""
        self.has_accepted = True
        self._refusals = 0
        self._log.info("connection_open", streams=len(connection.streams))
        if not connection.is_lost:
            self.connections.append(connection)
            self.coverage.opened(connection)
        self._health.begin(connection)
        self._compare()

    async def _stay(self, connection: Connection) -> ReconnectCause:
        """Wait until the connection is over or must be replaced; return why."""
        while len(self.connections) > MAX_CONNECTIONS:
            await self._close(min(self.connections[:-1], key=self._brought_alone))
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await connection.over.wait()
            except TimeoutError:
                await self._end_overlap(connection)
                self._report_silent(connection)
                if cause := self._health.look(connection):
                    return cause
            else:
                return connection.cause

    async def _end_overlap(self, connection: Connection) -> None:
        """Close the connections that this one has replaced. After the longest overlap, end its
        handover.
        """
        if connection.age_s() >= OVERLAP_S:
            connection.finish_handover("handover_timeout")
        heard = connection.decoder.last_received()
        for old in [old for old in self.connections if old is not connection]:
            wanted = self._wanted(old.decoder.last_received())
            if may_close(wanted, heard, connection.age_s()):
                await self._close(old)

    def _brought_alone(self, connection: Connection) -> int:
        """Return how many streams have come over this connection and no other."""
        others = (one.decoder.last_received() for one in self.connections if one is not connection)
        return len(self._wanted(connection.decoder.last_received()) - set().union(*others))

    def _wanted(self, names: Iterable[str]) -> set[str]:
        """Return those of these streams that the bundle still has."""
        return {stream.name for stream in self.streams}.intersection(names)

    async def _close(self, connection: Connection) -> None:
        await connection.close()
        self._lost(connection)

    def _lost(self, connection: Connection) -> None:
        """Remove a connection that is closed, whoever closed it."""
        self._past = self.last_received()
        if connection in self.connections:
            self.connections.remove(connection)
        self.coverage.lost(connection)
        self._compare()

    def _compare(self) -> None:
        """Compare the lines only while this connector has one connection: with two, a duplicate
        does not show which line was first.
        """
        self.arrivals.compares = len(self.coverage.lines) > 1 and len(self.connections) == 1

    def _report_silent(self, connection: Connection) -> None:
        """Log the streams that have sent nothing within the first-message timeout."""
        deadline_s = self._options.first_message_timeout_s
        if self._reported is self.streams or connection.age_s() < deadline_s:
            return
        self._reported = self.streams
        if names := self.without_data():
            self._log.warning(
                "streams_without_data",
                streams=names[:NAMED_MAX],
                count=len(names),
                waited_s=deadline_s,
                remedy="check the names; a market without trades sends nothing either",
            )

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        assert isinstance(error, FeedUnavailable)  # noqa: S101  # the one that is retried
        self.coverage.handler.counts.reconnects[error.cause] += 1
        if error.cause == "rate_limited":
            self._rate_limiter.quiet.extend(error.retry_after_s or 0.0)
        if error.cause in _REPLACED:
            self._log.info("connection_replacing", cause=error.cause, retry_in_s=round(delay_s, 2))
        elif self._backoff.should_log(error):
            self._log.warning("connection_down", error=str(error), retry_in_s=round(delay_s, 2))


def later(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Return the later time of each stream, and the times that only one of the two has."""
    if not one or not other:
        return one or other
    both = one.keys() & other.keys()
    return one | other | {name: max(one[name], other[name]) for name in both}
