"""Events become records: encoded once, with the names both sinks file them under.

Topic `<venue>.<message_type>`, key the symbol; channel `<venue>.<message_type>:<symbol>`. What a
(message type, symbol) pair is called is worked out once and kept.
"""

from collections.abc import Callable, Iterable

import msgspec

from bridge.core.model.events import Event
from bridge.core.model.stream import Stream
from bridge.core.records.latest_values import LatestValue, latest_values
from bridge.core.sequencing.sequencers import contiguous_id

# Kafka 4 refuses records more than an hour ahead of its clock, and with one record its whole batch
# (`message.timestamp.after.max.ms`): a time this far ahead of ours is the exchange's mistake.
MAX_AHEAD_US = 60_000_000
# The identity of records whose ids are not contiguous.
NO_IDENTITY = -1
encode = msgspec.json.Encoder().encode

# What a symbol's records of one topic have in common: the topic, and their key.
Key = tuple[str, bytes]
# What each symbol's streams carry; None has those of the whole market.
_Payloads = dict[str | None, set[str]]


class Route(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Where the events of one message type and symbol go. Compared by identity: one a pair."""

    message_type: str
    symbol: str
    topic: str
    key: bytes
    channel: str
    latest: tuple[LatestValue, ...]
    id_of: Callable[[Event], int] | None = None

    @property
    def name(self) -> Key:
        """What it is called where two of one pair are to be the same."""
        return self.topic, self.key


class Record(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One event on its way to the sinks: its JSON, the record time in milliseconds, when its frame
    arrived in microseconds, and its id where ids are contiguous, else -1.
    """

    route: Route
    timestamp_ms: int
    received: int
    value: bytes
    identity: int = NO_IDENTITY


class PriorityRecord(Record, frozen=True, eq=False, gc=False):
    """A record that goes ahead of what waits on disk, and never there itself."""


class Router:
    """Turns events into records; keeps the route of each pair it has met."""

    def __init__(self, streams: Iterable[Stream], topic_template: str) -> None:
        self._topic_template = topic_template
        self._routes: dict[type[Event], dict[str, Route]] = {}
        self._payloads: _Payloads = {}
        self.set_streams(streams)

    def set_streams(self, streams: Iterable[Stream]) -> None:
        """These are the streams from now on: what sets a symbol's latest values goes by them."""
        before, self._payloads = self._payloads, {None: set()}
        for stream in streams:
            self._payloads.setdefault(stream.symbol, set()).add(stream.payload)
        for routes in self._routes.values():
            for symbol in list(routes):
                if _payloads_of(before, symbol) != _payloads_of(self._payloads, symbol):
                    del routes[symbol]

    def record(self, event: Event) -> Record:
        """The record of an event: the same bytes for both sinks."""
        return record_of(self.route(event), event)

    def route(self, event: Event) -> Route:
        """Where the events of its message type and symbol go."""
        try:
            return self._routes[event.__class__][event.symbol]
        except KeyError:
            return self._add_route(event)

    def _add_route(self, event: Event) -> Route:
        message_type = str(event.__struct_config__.tag)
        payloads = _payloads_of(self._payloads, event.symbol)
        route = Route(
            message_type,
            event.symbol,
            topic_name(self._topic_template, event.venue, message_type),
            event.symbol.encode(),
            f"{event.venue}.{message_type}:{event.symbol}",
            latest_values(event.venue, event.symbol, type(event), payloads),
            contiguous_id(type(event)),
        )
        self._routes.setdefault(type(event), {})[event.symbol] = route
        return route


def record_of(route: Route, event: Event) -> Record:
    """The record of an event whose route is known."""
    time, received, id_of = event.timestamp, event.received, route.id_of
    if time is None or time > received + MAX_AHEAD_US:
        time = received
    identity = NO_IDENTITY if id_of is None else id_of(event)
    return Record(route, time // 1000, received, encode(event), identity)


def _payloads_of(payloads: _Payloads, symbol: str) -> set[str]:
    return payloads[None] | payloads.get(symbol, set())


def priority_record(record: Record) -> PriorityRecord:
    """The same record, to go ahead."""
    return PriorityRecord(*msgspec.structs.astuple(record))


def topic_name(template: str, venue: str, message_type: str) -> str:
    """The topic of one message type: `binance.spot.trade`."""
    return template.format(venue=venue, message_type=message_type)
