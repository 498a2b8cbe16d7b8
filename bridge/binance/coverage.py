"""A set of streams, and the open connections that have it: those of one leg, or of two.

The set may change while they are open. Until its leg has replaced it a connection has the streams
it began with.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bridge.binance.connection import Pump, Session
from bridge.core.model.stream import Stream
from bridge.core.sequencing.handover import Joining
from bridge.errors import ReconnectCause

# Of two legs with the same streams; one alone is the first.
LABELS = ("a", "b")


class Place(NamedTuple):
    """A leg's place among all: the part of the streams it has, of how many, and its label."""

    part: int
    parts: int
    label: str = LABELS[0]

    @property
    def slot(self) -> int:
        """Its place in the order of rotations: first every `a`, then every `b`."""
        return self.part + self.parts * LABELS.index(self.label)


class Cover:
    """Says that streams are interrupted when the last connection that has them is gone.

    `labels` are those of the legs that share them.
    """

    def __init__(
        self, streams: list[Stream], pump: Pump, labels: Sequence[str] = LABELS[:1]
    ) -> None:
        self.streams = streams
        self.pump = pump
        self.labels = tuple(labels)
        self._sessions: list[Session] = []

    def change(self, streams: list[Stream]) -> None:
        """Have these streams from now on."""
        if self._names() != {stream.name for stream in streams}:
            self.streams = streams

    def is_outdated(self, session: Session) -> bool:
        """Whether a connection has other streams than it should."""
        return session.streams.keys() != self._names()

    def held(self) -> list[str]:
        """The names of its streams, and of those that an open connection still has."""
        names = dict.fromkeys(stream.name for stream in self.streams)
        for session in self._sessions:
            names |= dict.fromkeys(session.streams)
        return list(names)

    def counts(self, leg: str) -> list[int]:
        """Of each other leg, how many connections it has open."""
        open_now = Counter(session.leg for session in self._sessions)
        return [open_now[label] for label in self.labels if label != leg]

    def opens(self, session: Session) -> None:
        """A connection is about to open: beside another one it has to join that."""
        if any(not other.is_silent for other in self._sessions):
            session.joining = Joining()

    def opened(self, session: Session) -> None:
        """A connection has the streams from now on."""
        self._sessions.append(session)
        self._lead(session.cause)

    def lost(self, session: Session) -> None:
        """A connection is gone, whether it had been counted or not."""
        if session in self._sessions:
            self._sessions.remove(session)
        self.pump.interrupted(self._only_of(session), session.cause)
        self._lead(session.cause)

    def silent(self, session: Session, names: Iterable[str], since_s: float) -> None:
        """An open connection has not brought these streams since then, on the loop's clock.

        Another one makes up for it only if it has been open, and not silent, all that time.
        """
        made_up: set[str] = set()
        for other in self._sessions:
            if other is not session and not other.is_silent and other.opened_s <= since_s:
                made_up |= other.streams.keys()
        silent = set(names) - made_up
        self.pump.interrupted([s for s in self.streams if s.name in silent], "silent")

    def _names(self) -> set[str]:
        return {stream.name for stream in self.streams}

    def _only_of(self, session: Session) -> list[Stream]:
        """The streams of which it may have had something that no other connection has brought, or
        will.
        """
        others = set().union(*(_sure(other, session) for other in self._sessions))
        return [stream for name, stream in session.streams.items() if name not in others]

    def _lead(self, cause: ReconnectCause) -> None:
        """One of the connections waits for none of the others."""
        if self._sessions and all(session.joining for session in self._sessions):
            self._sessions[0].joined(cause)


def _sure(session: Session, lost: Session) -> Iterable[str]:
    """The streams of a connection that make up for those of one that is gone.

    One that broke off may have held something back since before the other was open. What the other
    has brought since is held against that (`Joining`); where it has brought nothing, nobody knows.
    """
    has_joined = session.joining is None or lost.is_whole
    return session.streams if has_joined else session.decoder.last_received()
