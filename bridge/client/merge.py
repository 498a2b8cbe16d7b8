"""Merges the two copies of a stream, Kafka's record and Redis' fast path, by the ids of its events.

Kafka's record decides, because it is complete and in order: it begins each stream, passes over ids
that it does not have, and starts a stream again after a restart of its ids. Redis is only faster:
its event passes at once if it is the next one. Kafka brings whatever is dropped from Redis.

This is plain data without an event loop.
"""

from bisect import bisect_left, bisect_right
from operator import itemgetter

from bridge.client.continuity import MAX_RANGES
from bridge.client.events import EVENT_TYPES, AggTrade, Event, Gap, Trade
from bridge.core.model.id_ranges import IdRanges, Ids

# Of all streams: events from Redis that wait until Kafka has brought those before them.
MAX_HELD_EVENTS = 100_000

MERGED = ("trade", "agg_trade")
IdEvent = Trade | AggTrade
"""An event with an id, one higher than that of the event before it."""


class Merge:
    """The streams of a reader. Each method returns the events that come next, in order."""

    def __init__(self) -> None:
        self._streams: dict[tuple[type[Event], str], _Stream] = {}
        self.held_count = 0

    def recorded(self, event: IdEvent) -> list[IdEvent]:
        """Take the next event of Kafka's record."""
        stream = self._stream(type(event), event.symbol)
        stream.recorded(event)
        return self._passed(stream)

    def published(self, event: IdEvent) -> list[IdEvent]:
        """Take an event from Redis. It may have come before, or before those that precede it."""
        stream = self._stream(type(event), event.symbol)
        stream.published(event, full=self.held_count >= MAX_HELD_EVENTS)
        return self._passed(stream)

    def announce(self, gap: Gap) -> list[IdEvent]:
        """Take a gap event of Kafka's record. Held events no longer wait for its ids."""
        if gap.kind not in MERGED:
            return []
        stream = self._stream(EVENT_TYPES[gap.kind], gap.symbol)
        stream.announce(gap)
        return self._passed(stream)

    def _stream(self, of: type[Event], symbol: str) -> "_Stream":
        return self._streams.setdefault((of, symbol), _Stream())

    def _passed(self, stream: "_Stream") -> list[IdEvent]:
        passed, stream.passed = stream.passed, []
        self.held_count += len(stream.held) - stream.held_before
        stream.held_before = len(stream.held)
        return passed


class _Stream:
    """The ids of one message type and symbol. `passed` collects the events that come next."""

    __slots__ = (
        "_announced",
        "_first_id",
        "_missing",
        "_newest",
        "_next_id",
        "_restarted",
        "held",
        "held_before",
        "passed",
    )

    def __init__(self) -> None:
        self.passed: list[IdEvent] = []
        # Events from Redis with ids above `_next_id`, in the order of their arrival.
        self.held: dict[int, IdEvent] = {}
        self.held_before = 0
        # None until Kafka has brought the first event.
        self._next_id: int | None = None
        self._first_id = 0
        # The times of the newest event that was passed on, and of the first one after a restart.
        self._newest = self._restarted = 0
        # Ids that were passed over. Trades that are fetched afterwards may still bring them.
        self._missing = IdRanges()
        # Disjoint ranges, in ascending order.
        self._announced: list[Ids] = []

    def recorded(self, event: IdEvent) -> None:
        number, time, next_id = _id_of(event), event.timestamp or 0, self._next_id
        if next_id is None:
            self._begin(number, event)
        elif number >= next_id:
            self._pass_held_before(number)
            self.held.pop(number, None)
            self._pass(number, event)
        elif time > self._newest:
            # No event of this time has passed, so the ids have restarted.
            self._restarted = time
            self._begin(number, event)
        elif number < self._first_id:
            # It was fetched late, and its ids were missing before the start.
            self.passed.append(event)
        else:
            self._pass_late(number, event)
        self._release()

    def published(self, event: IdEvent, *, full: bool) -> None:
        number, time, next_id = _id_of(event), event.timestamp or 0, self._next_id
        if next_id is None or number > next_id:
            self._hold(number, event, full=full)
        elif time < self._restarted:
            pass  # it has ids from before the restart
        elif number == next_id:
            self._pass(number, event)
        elif time <= self._newest:  # otherwise the ids restart, and Kafka will say so
            self._pass_late(number, event)
        self._release()

    def announce(self, gap: Gap) -> None:
        if gap.first_id is not None and gap.last_id is not None:
            self._join(gap.first_id, gap.last_id)
            self._release()

    def _begin(self, number: int, event: IdEvent) -> None:
        self._first_id = self._next_id = number
        self._newest, self._missing, self._announced = 0, IdRanges(), []
        self.held = {
            held: each
            for held, each in self.held.items()
            if held > number and (each.timestamp or 0) >= self._restarted
        }
        self._pass(number, event)

    def _pass(self, number: int, event: IdEvent) -> None:
        """Pass on an event at or after the next id; the ids before it are missing."""
        next_id = self._next_id or 0
        if number > next_id:
            self._missing.append(next_id, number - 1)
            self._missing.take(max(0, len(self._missing) - MAX_RANGES))
        self._next_id = number + 1
        self._newest = max(self._newest, event.timestamp or 0)
        self.passed.append(event)

    def _pass_late(self, number: int, event: IdEvent) -> None:
        """Pass on an event that was missing until now; drop one that has come before."""
        if self._missing.remove(number, number):
            self.passed.append(event)

    def _pass_held_before(self, number: int) -> None:
        """Pass on what Redis has brought of ids that are passed over."""
        if self._next_id != number:
            for held in sorted(held for held in self.held if held < number):
                self._pass(held, self.held.pop(held))

    def _hold(self, number: int, event: IdEvent, *, full: bool) -> None:
        if full:
            if not self.held:
                return
            del self.held[next(iter(self.held))]
        self.held[number] = event

    def _release(self) -> None:
        """Pass on the held events that come next, and those right after an announced gap."""
        while self.held and self._next_id is not None:
            number = self._next_id
            if number not in self.held:
                number = self._after_announced(number)
            if number not in self.held:
                return
            self._pass_held_before(number)
            self._pass(number, self.held.pop(number))

    def _after_announced(self, number: int) -> int:
        """Return the first id from this one on that no gap event has announced."""
        place = bisect_left(self._announced, number, key=itemgetter(1))
        if place < len(self._announced) and self._announced[place][0] <= number:
            return self._announced[place][1] + 1
        return number

    def _join(self, first: int, last: int) -> None:
        """Add a range to the announced ones, and forget those that have been passed."""
        if last < (self._next_id or 0):
            return
        begin = bisect_left(self._announced, first - 1, key=itemgetter(1))
        end = bisect_right(self._announced, last + 1, key=itemgetter(0))
        joined = [(first, last), *self._announced[begin:end]]
        self._announced[begin:end] = [(min(joined)[0], max(ids[1] for ids in joined))]
        del self._announced[: bisect_left(self._announced, self._next_id or 0, key=itemgetter(1))]
        del self._announced[:-MAX_RANGES]


def _id_of(event: IdEvent) -> int:
    return event.trade_id if isinstance(event, Trade) else event.agg_trade_id
