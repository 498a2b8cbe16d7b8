"""A set of streams, and the open connections that have it: those of one connector, or of two.

The set may change while they are open. Until its connector has replaced it a connection has the
streams it began with.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bridge.binance.connection import Connection, FrameHandler
from bridge.core.model.stream import Stream
from bridge.core.sequencing.handover import Handover
from bridge.errors import ReconnectCause

# Of two connectors with the same streams; one alone is the first.
LINES = ("a", "b")


class ShardSlot(NamedTuple):
    """A connector's slot among all: the shard of the streams it has, of how many, and its line."""

    shard: int
    shards: int
    line: str = LINES[0]

    @property
    def rotation_order(self) -> int:
        """Its slot in the order of rotations: first every `a`, then every `b`."""
        return self.shard + self.shards * LINES.index(self.line)


class ShardCoverage:
    """Says that streams are interrupted when the last connection that has them is gone.

    `lines` are those of the connectors that share them.
    """

    def __init__(
        self, streams: list[Stream], handler: FrameHandler, lines: Sequence[str] = LINES[:1]
    ) -> None:
        self.streams = streams
        self.handler = handler
        self.lines = tuple(lines)
        self._connections: list[Connection] = []

    def set_streams(self, streams: list[Stream]) -> None:
        """Have these streams from now on."""
        if self._names() != {stream.name for stream in streams}:
            self.streams = streams

    def is_outdated(self, connection: Connection) -> bool:
        """Whether a connection has other streams than it should."""
        return connection.streams.keys() != self._names()

    def held(self) -> list[str]:
        """The names of its streams, and of those that an open connection still has."""
        names = dict.fromkeys(stream.name for stream in self.streams)
        for connection in self._connections:
            names |= dict.fromkeys(connection.streams)
        return list(names)

    def counts(self, connector: str) -> list[int]:
        """Of each other connector, how many connections it has open."""
        open_now = Counter(connection.connector for connection in self._connections)
        return [open_now[line] for line in self.lines if line != connector]

    def opens(self, connection: Connection) -> None:
        """A connection is about to open: beside another one it has to join that."""
        if any(not other.is_stalled for other in self._connections):
            connection.handover = Handover()

    def opened(self, connection: Connection) -> None:
        """A connection has the streams from now on."""
        self._connections.append(connection)
        self._lead(connection.cause)

    def lost(self, connection: Connection) -> None:
        """A connection is gone, whether it had been counted or not."""
        if connection in self._connections:
            self._connections.remove(connection)
        self.handler.mark_interrupted(self._only_of(connection), connection.cause)
        self._lead(connection.cause)

    def mark_stalled(self, connection: Connection, names: Iterable[str], since_s: float) -> None:
        """An open connection has not brought these streams since then, on the loop's clock.

        Another one makes up for it only if it has been open, and not silent, all that time.
        """
        made_up: set[str] = set()
        for other in self._connections:
            if other is not connection and not other.is_stalled and other.opened_s <= since_s:
                made_up |= other.streams.keys()
        silent = set(names) - made_up
        self.handler.mark_interrupted([s for s in self.streams if s.name in silent], "stalled")

    def _names(self) -> set[str]:
        return {stream.name for stream in self.streams}

    def _only_of(self, connection: Connection) -> list[Stream]:
        """The streams of which it may have had something that no other connection has brought, or
        will.
        """
        others = set().union(*(_sure(other, connection) for other in self._connections))
        return [stream for name, stream in connection.streams.items() if name not in others]

    def _lead(self, cause: ReconnectCause) -> None:
        """One of the connections waits for none of the others."""
        if self._connections and all(connection.handover for connection in self._connections):
            self._connections[0].finish_handover(cause)


def _sure(connection: Connection, lost: Connection) -> Iterable[str]:
    """The streams of a connection that make up for those of one that is gone.

    One that broke off may have held something back since before the other was open. What the other
    has brought since is held against that (`Handover`); where it has brought nothing, nobody knows.
    """
    has_joined = connection.handover is None or lost.is_whole
    return connection.streams if has_joined else connection.decoder.last_received()
