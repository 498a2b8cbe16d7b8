"""A set of streams, and the open connections that have it: those of one leg, or of two."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bridge.binance.session import Pump, Session
from bridge.core.joining import Joining
from bridge.core.streams import Stream
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
        if not self._sessions:
            self.pump.interrupted(self.streams, session.cause)
        self._lead(session.cause)

    def silent(self, session: Session, names: Iterable[str], since_s: float) -> None:
        """An open connection has not brought these streams since then, on the loop's clock.

        Another one makes up for it only if it has been open, and not silent, all that time.
        """
        others = (s for s in self._sessions if s is not session and not s.is_silent)
        if any(other.opened_s <= since_s for other in others):
            return
        silent = set(names)
        self.pump.interrupted([s for s in self.streams if s.name in silent], "silent")

    def _lead(self, cause: ReconnectCause) -> None:
        """One of the connections waits for none of the others."""
        if self._sessions and all(session.joining for session in self._sessions):
            self._sessions[0].joined(cause)
