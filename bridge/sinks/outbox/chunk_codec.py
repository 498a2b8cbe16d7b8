"""Encodes a chunk of records in two parts, each with a checksum.

The first part is a table with one row for each route. The second part holds the records.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from zlib import crc32

import msgspec

from bridge.core.delivery.losses import Loss
from bridge.core.model.unreadable import UNREADABLE
from bridge.core.records.record import NO_IDENTITY, Record, Route, RouteKey
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.rules import Ids

# Each part begins with its checksum.
_CHECKSUM_BYTES = 4


class CorruptChunk(Exception):
    """The bytes read differ from the bytes written."""


class RouteRow(msgspec.Struct, array_like=True, gc=False):
    """The records of one route in a chunk.

    The ids are the least and the greatest, or -1 if they are not contiguous. The times are those of
    the first and the last record, in milliseconds.
    """

    message_type: str
    symbol: str
    topic: str
    channel: str
    count: int
    first_id: int
    last_id: int
    first_ms: int
    last_ms: int

    @property
    def route_key(self) -> RouteKey:
        return self.topic, self.symbol.encode()

    @property
    def stream_key(self) -> StreamKey:
        return StreamKey(self.message_type, self.symbol)

    @property
    def ids(self) -> Ids:
        return self.first_id, self.last_id

    @property
    def position(self) -> Position:
        return Position(self.message_type, self.symbol, self.last_id, self.last_ms * 1000, -1, 0)

    @property
    def is_exact(self) -> bool:
        """Return whether the chunk holds all ids in between."""
        return self.last_id - self.first_id < self.count or self.first_id == NO_IDENTITY

    def loss(self, cause: str) -> Loss:
        times = (self.first_ms * 1000, self.last_ms * 1000)
        names = (self.message_type, self.symbol)
        return Loss(*names, *self.ids, *times, cause, is_exact=self.is_exact)


class _RecordRow(msgspec.Struct, array_like=True, gc=False):
    route: int
    timestamp_ms: int
    received: int
    mark: int
    value: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_routes = msgspec.msgpack.Decoder(list[RouteRow]).decode
_decode_records = msgspec.msgpack.Decoder(list[_RecordRow]).decode


class Routes:
    """The routes of records read from disk, one for each key."""

    def __init__(self) -> None:
        self._routes: dict[RouteKey, Route] = {}

    def of(self, row: RouteRow) -> Route:
        route = self._routes.get(row.route_key)
        if route is None:
            topic, key = row.route_key
            route = Route(row.message_type, row.symbol, topic, key, row.channel, ())
            self._routes[row.route_key] = route
        return route

    def stream_key(self, route_key: RouteKey) -> StreamKey:
        """Return the stream of a route."""
        return self._routes[route_key].stream_key


def write(records: Sequence[Record]) -> tuple[bytes, bytes, list[RouteRow]]:
    """Return the two parts of a chunk, and the rows of its table."""
    indexes: dict[RouteKey, int] = {}
    rows: list[RouteRow] = []
    members = []
    for record in records:
        route, identity, time = record.route, record.identity, record.timestamp_ms
        index = indexes.setdefault(route.route_key, len(rows))
        if index == len(rows):
            names = (route.message_type, route.symbol, route.topic, route.channel)
            rows.append(RouteRow(*names, 0, identity, identity, time, time))
        row = rows[index]
        row.count += 1
        row.first_id, row.last_id = min(row.first_id, identity), max(row.last_id, identity)
        row.last_ms = time
        members.append(_RecordRow(index, time, record.received, record.mark, record.value))
    return _sealed(_encode(rows)), _sealed(_encode(members)), rows


def read_routes(part: object) -> list[RouteRow]:
    """Return the rows of a chunk's table. Raises CorruptChunk."""
    try:
        return _decode_routes(_body(part))
    except UNREADABLE as error:
        raise CorruptChunk from error


def read_records(part: object, rows: Sequence[RouteRow], routes: Routes) -> list[Record]:
    """Return the records of a chunk. Raises CorruptChunk."""
    of = [routes.of(row) for row in rows]
    try:
        return [
            Record(of[r.route], r.timestamp_ms, r.received, r.value, r.mark)
            for r in _decode_records(_body(part))
        ]
    except (*UNREADABLE, IndexError) as error:
        raise CorruptChunk from error


def counts(rows: Iterable[RouteRow]) -> Counter[RouteKey]:
    """Count the records of each key."""
    found: Counter[RouteKey] = Counter()
    for row in rows:
        found[row.route_key] += row.count
    return found


def message_types(rows: Iterable[RouteRow]) -> Counter[str]:
    """Count the records of each message type."""
    found: Counter[str] = Counter()
    for row in rows:
        found[row.message_type] += row.count
    return found


def _sealed(body: bytes) -> bytes:
    return crc32(body).to_bytes(_CHECKSUM_BYTES) + body


def _body(part: object) -> bytes:
    """Return the content of a part. Raises CorruptChunk if its checksum does not match."""
    if not isinstance(part, bytes):
        raise CorruptChunk
    body = part[_CHECKSUM_BYTES:]
    if _sealed(body) != part:
        raise CorruptChunk
    return body
