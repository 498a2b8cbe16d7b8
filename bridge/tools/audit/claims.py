"""What the statuses of the symbols claim: up to which id and time nothing was missing."""

from collections import defaultdict
from typing import NamedTuple

import msgspec

from bridge.tools.audit.rules import NO_EVENT, Id

# A status comes every few seconds, and the topic is compacted. Beyond the limit the oldest claims
# of a symbol are forgotten.
MAX_CLAIMS = 100_000
# The field of a status that has the last id, by message type.
_LAST_IDS = {"trade": "trade_id", "agg_trade": "agg_trade_id"}


class StatusRecord(msgspec.Struct, tag_field="message_type", tag="status", gc=False):
    """The fields of a status that the audit needs."""

    symbol: str
    trade_id: Id | None
    agg_trade_id: Id | None
    complete_to: Id | None


class Claim(NamedTuple):
    """All events up to this id and up to this time are in the topic, or announced as missing."""

    last_id: int
    complete_to: int


class Claims:
    """The claims about one symbol, in the order of their publication.

    Without a restart of the ids, ids and times rise. After one there are no claims any more.
    """

    def __init__(self) -> None:
        self._claims: list[Claim] = []
        self._have_restarted = False
        self._place = 0
        self._until = -1

    def __bool__(self) -> bool:
        return bool(self._claims)

    @property
    def last_id(self) -> int:
        """Return the last id that is claimed to be there; -1 if there are no claims."""
        return self._claims[-1].last_id if self._claims else -1

    def add(self, claim: Claim) -> None:
        """Add the next claim, before the first call of `until`."""
        if self._have_restarted or claim.last_id < self.last_id:
            self.forget()
        elif claim.last_id == self.last_id:
            self._claims[-1] = claim
        else:
            self._claims.append(claim)
            del self._claims[:-MAX_CLAIMS]

    def forget(self) -> None:
        """Remove all claims: ids have restarted, so they say nothing about the ids of today."""
        self._have_restarted = True
        self._claims.clear()

    def until(self, first_id: int) -> int:
        """Return the time up to which no event with this id may be missing, in microseconds.

        Ids must come in ascending order.
        """
        claims = self._claims
        while self._place < len(claims) and claims[self._place].last_id < first_id:
            self._until = max(self._until, claims[self._place].complete_to)
            self._place += 1
        return self._until


class AllClaims:
    """The claims about all symbols of one message type. `records` counts the statuses."""

    def __init__(self, kind: str) -> None:
        self.records = 0
        self.unreadable = 0
        self._field = _LAST_IDS.get(kind)
        self._symbols: defaultdict[str, Claims] = defaultdict(Claims)
        self._decode = msgspec.json.Decoder(StatusRecord).decode

    @property
    def is_made(self) -> bool:
        """Return whether statuses say anything about this message type."""
        return self._field is not None

    def of(self, symbol: str) -> Claims:
        return self._symbols[symbol]

    def observe(self, value: bytes) -> None:
        """Read a record of the status topic. Records must come in the order of the topic."""
        try:
            status = self._decode(value)
        except NO_EVENT:
            self.unreadable += 1
            return
        self.records += 1
        last_id = getattr(status, self._field) if self._field else None
        if last_id is not None and status.complete_to is not None:
            self._symbols[status.symbol].add(Claim(last_id, status.complete_to))
