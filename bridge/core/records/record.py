"""Convert events to records: each event is encoded once, with its names in both sinks.

The topic is `<venue>.<message_type>` and the key is the symbol. The Redis channel is
`<venue>.<message_type>:<symbol>`. These names are built once for each message type and symbol.
"""

from collections.abc import Callable, Iterable

import msgspec

from bridge.core.model.events import Event
from bridge.core.model.stream import Stream
from bridge.core.records.latest_values import LatestValue, latest_values
from bridge.core.sequencing.position import StreamKey
from bridge.core.sequencing.rules import time_of
from bridge.core.sequencing.sequencers import CONTIGUOUS, mark_getter

# The mark of records without one, and the identity of records whose ids are not contiguous.
NO_IDENTITY = -1
encode = msgspec.json.Encoder().encode

# The topic and the key of a record: equal for all records of one symbol in one topic.
RouteKey = tuple[str, bytes]
# The payloads of each symbol's streams; the key None holds those of the market-wide streams.
_Payloads = dict[str | None, set[str]]


class Route(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The destinations of the events of one message type and symbol.

    Compared by identity: there is one object per message type and symbol.
    """

    message_type: str
    symbol: str
    topic: str
    key: bytes
    channel: str
    latest: tuple[LatestValue, ...]
    mark_of: Callable[[Event], int] | None = None

    @property
    def route_key(self) -> RouteKey:
        """Return a value that is equal for two routes with the same topic and key."""
        return self.topic, self.key

    @property
    def stream_key(self) -> StreamKey:
        return StreamKey(self.message_type, self.symbol)


class Record(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One event on its way to the sinks.

    `value` is the JSON, `timestamp_ms` the event's time in milliseconds, and `received` the arrival
    of the frame in microseconds. `mark` is the id or time that orders the events of its stream, or
    -1.
    """

    route: Route
    timestamp_ms: int
    received: int
    value: bytes
    mark: int = NO_IDENTITY

    @property
    def identity(self) -> int:
        """Return the event's id if ids are contiguous, else -1."""
        return self.mark if self.route.message_type in CONTIGUOUS else NO_IDENTITY


class PriorityRecord(Record, frozen=True, eq=False, gc=False):
    """A record that is sent before the records on disk, and is never written to disk itself."""


class Router:
    """Converts events to records; keeps one route for each message type and symbol."""

    def __init__(self, streams: Iterable[Stream], topic_template: str) -> None:
        self._topic_template = topic_template
        self._routes: dict[type[Event], dict[str, Route]] = {}
        self._payloads: _Payloads = {}
        self.set_streams(streams)

    def set_streams(self, streams: Iterable[Stream]) -> None:
        """Replace the streams; they decide which events set a symbol's latest values."""
        before, self._payloads = self._payloads, {None: set()}
        for stream in streams:
            self._payloads.setdefault(stream.symbol, set()).add(stream.payload)
        for routes in self._routes.values():
            for symbol in list(routes):
                if _payloads_of(before, symbol) != _payloads_of(self._payloads, symbol):
                    del routes[symbol]

    def record(self, event: Event) -> Record:
        """Return the record of an event, with the same bytes for both sinks."""
        return record_of(self.route(event), event)

    def route(self, event: Event) -> Route:
        """Return the route for the message type and symbol of an event."""
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
            channel_name(event.venue, message_type, event.symbol),
            latest_values(event.venue, event.symbol, type(event), payloads),
            mark_getter(type(event)),
        )
        self._routes.setdefault(type(event), {})[event.symbol] = route
        return route


def record_of(route: Route, event: Event) -> Record:
    """Return the record of an event whose route is known."""
    mark_of = route.mark_of
    mark = NO_IDENTITY if mark_of is None else mark_of(event)
    return Record(route, time_of(event) // 1000, event.received, encode(event), mark)


def _payloads_of(payloads: _Payloads, symbol: str) -> set[str]:
    return payloads[None] | payloads.get(symbol, set())


def priority_record(record: Record) -> PriorityRecord:
    """Return the record as one that is sent before the records on disk."""
    return PriorityRecord(*msgspec.structs.astuple(record))


def channel_name(venue: str, message_type: str, symbol: str) -> str:
    """Return the channel of one message type and symbol: `binance.spot.trade:BTCUSDT`."""
    return f"{venue}.{message_type}:{symbol}"


def topic_name(template: str, venue: str, message_type: str) -> str:
    """Return the topic of one message type: `binance.spot.trade`."""
    return template.format(venue=venue, message_type=message_type)
