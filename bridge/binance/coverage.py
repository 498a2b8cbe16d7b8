"""The open connections of a bundle, on one line or both.

The streams of a bundle may change while connections are open. A connection keeps the streams it
opened with until its connector replaces it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from bridge.binance.connection import Connection, FrameHandler
from bridge.core.model.stream import Stream
from bridge.core.sequencing.handover import Handover
from bridge.errors import ReconnectCause

# The lines that carry a bundle; without redundancy only the first.
LINES = ("a", "b")


class Slot(NamedTuple):
    """A connector's bundle, the number of bundles, and its line."""

    bundle: int
    bundles: int
    line: str = LINES[0]

    @property
    def rotation_order(self) -> int:
        """Return its place in the order of rotations: first all of line a, then all of line b."""
        return self.bundle + self.bundles * LINES.index(self.line)


class Coverage:
    """Reports streams as interrupted when no connection carries them any more.

    `lines` are the lines of the connectors that share the streams.
    """

    def __init__(
        self,
        streams: list[Stream],
        handler: FrameHandler,
        lines: Sequence[str] = LINES[:1],
    ) -> None:
        self.streams = streams
        self.handler = handler
        self.lines = tuple(lines)
        # In the order in which they have opened.
        self._connections: list[Connection] = []
        self._opening: list[Connection] = []

    def set_streams(self, streams: list[Stream]) -> None:
        """Set the streams of the bundle."""
        if self._names() != {stream.name for stream in streams}:
            self.streams = streams

    def is_outdated(self, connection: Connection) -> bool:
        """Return whether a connection has other streams than the bundle."""
        return connection.streams.keys() != self._names()

    def held(self) -> list[str]:
        """Return the names of its streams, and of those that a connection still carries."""
        names = dict.fromkeys(stream.name for stream in self.streams)
        for connection in self._connections:
            names |= dict.fromkeys(connection.streams)
        return list(names)

    def open_on_other_lines(self, line: str) -> list[int]:
        """Return the number of open connections on each other line."""
        open_now = Counter(connection.line for connection in self._connections)
        return [open_now[other] for other in self.lines if other != line]

    @contextmanager
    def opening(self, connection: Connection) -> Iterator[None]:
        """Prepare a connection while it opens: it needs a handover if another one is open, or opens
        first, that has some of its streams. Its frames may come before `opened` is called.
        """
        for other in self._connections:
            if not other.is_stalled:
                _let_wait(connection, other)
        self._opening.append(connection)
        try:
            yield
        finally:
            self._opening.remove(connection)

    def opened(self, connection: Connection) -> None:
        """Note that a connection has opened."""
        self._connections.append(connection)
        for other in self._opening:
            _let_wait(other, connection)
        self._end_waits(connection.cause)
        self.handler.on_open()

    def lost(self, connection: Connection) -> None:
        """Note that a connection is closed, whether `opened` was called for it or not."""
        if connection in self._connections:
            self._connections.remove(connection)
        self.handler.mark_interrupted(self._only_of(connection), connection.cause)
        self._end_waits(connection.cause)

    def mark_stalled(self, connection: Connection, names: Iterable[str], since_s: float) -> None:
        """Note that an open connection has sent nothing of these streams since `since_s`, by the
        event loop's clock.

        Another connection replaces it only if it was open and not stalled all that time.
        """
        replaced: set[str] = set()
        for other in self._connections:
            if other is not connection and not other.is_stalled and other.opened_s <= since_s:
                replaced |= other.streams.keys()
        silent = set(names) - replaced
        self.handler.mark_interrupted([s for s in self.streams if s.name in silent], "stalled")

    def _names(self) -> set[str]:
        return {stream.name for stream in self.streams}

    def _only_of(self, connection: Connection) -> list[Stream]:
        """Return the streams of which events may be lost: no other connection has brought them or
        will.
        """
        others = set().union(*(_replaced_by(other, connection) for other in self._connections))
        return [stream for name, stream in connection.streams.items() if name not in others]

    def _end_waits(self, cause: ReconnectCause) -> None:
        """Let no connection wait for a stream that no older one carries."""
        carried: set[str] = set()
        for connection in self._connections:
            connection.finish_handover(cause, carried)
            carried |= connection.streams.keys()


def _let_wait(connection: Connection, older: Connection) -> None:
    """Let a connection wait for an older one, for the streams that both have."""
    shared = connection.streams.keys() & older.streams.keys()
    if connection.handover is not None:
        connection.handover.streams |= shared
    elif shared:
        connection.handover = Handover(shared)


def _replaced_by(connection: Connection, lost: Connection) -> Iterable[str]:
    """Return the streams of a connection that replace those of a lost one.

    A connection that broke off may have had undelivered events from before the other one opened.
    The handover compares the two for the streams that the new connection has brought. For the
    others a loss is possible.
    """
    has_joined = connection.handover is None or lost.is_whole
    return connection.streams if has_joined else connection.decoder.last_received()
