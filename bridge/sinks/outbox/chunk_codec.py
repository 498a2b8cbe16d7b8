"""A chunk of records as bytes: a table of what it holds, and the records, each part checked."""

from collections import Counter
from collections.abc import Iterable, Sequence
from zlib import crc32

import msgspec

from bridge.core.delivery.losses import Loss
from bridge.core.records.record import NO_IDENTITY, Key, Record, Route
from bridge.core.sequencing.position import Name, Position
from bridge.core.sequencing.rules import Ids

# What a part begins with: its checksum.
_CHECKSUM_BYTES = 4


class CorruptChunk(Exception):
    """Bytes that are not those that were written."""


class RouteRow(msgspec.Struct, array_like=True, gc=False):
    """What a chunk holds of one route: ids from the least to the greatest (-1 where they are not
    contiguous), times in milliseconds from the first to the last.
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
    def key(self) -> Key:
        return self.topic, self.symbol.encode()

    @property
    def ids(self) -> Ids:
        return self.first_id, self.last_id

    @property
    def position(self) -> Position:
        return Position(self.message_type, self.symbol, self.last_id, self.last_ms * 1000, 0, 0)

    @property
    def is_exact(self) -> bool:
        """Whether all ids in between are in the chunk."""
        return self.last_id - self.first_id < self.count or self.first_id == NO_IDENTITY

    def loss(self, cause: str) -> Loss:
        times = (self.first_ms * 1000, self.last_ms * 1000)
        return Loss(
            self.message_type, self.symbol, *self.ids, *times, cause, is_exact=self.is_exact
        )


class _RecordRow(msgspec.Struct, array_like=True, gc=False):
    route: int
    timestamp_ms: int
    received: int
    identity: int
    value: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_routes = msgspec.msgpack.Decoder(list[RouteRow]).decode
_decode_records = msgspec.msgpack.Decoder(list[_RecordRow]).decode


class Routes:
    """The routes of records that come from disk: one for each name."""

    def __init__(self) -> None:
        self._routes: dict[Key, Route] = {}

    def of(self, row: RouteRow) -> Route:
        route = self._routes.get(row.key)
        if route is None:
            topic, key = row.key
            route = Route(row.message_type, row.symbol, topic, key, row.channel, ())
            self._routes[row.key] = route
        return route

    def name(self, key: Key) -> Name:
        """What the stream of a key is called."""
        route = self._routes[key]
        return route.message_type, route.symbol


def write(records: Sequence[Record]) -> tuple[bytes, bytes, list[RouteRow]]:
    """The two parts of a chunk, and what the first one says."""
    places: dict[Key, int] = {}
    rows: list[RouteRow] = []
    members = []
    for record in records:
        route, identity, time = record.route, record.identity, record.timestamp_ms
        place = places.setdefault(route.name, len(rows))
        if place == len(rows):
            names = (route.message_type, route.symbol, route.topic, route.channel)
            rows.append(RouteRow(*names, 0, identity, identity, time, time))
        row = rows[place]
        row.count += 1
        row.first_id, row.last_id = min(row.first_id, identity), max(row.last_id, identity)
        row.last_ms = time
        members.append(_RecordRow(place, time, record.received, identity, record.value))
    return _sealed(_encode(rows)), _sealed(_encode(members)), rows


def read_routes(part: object) -> list[RouteRow]:
    """What a chunk holds. Raises CorruptChunk."""
    try:
        return _decode_routes(_body(part))
    except msgspec.DecodeError as error:
        raise CorruptChunk from error


def read_records(part: object, rows: Sequence[RouteRow], routes: Routes) -> list[Record]:
    """The records of a chunk. Raises CorruptChunk."""
    of = [routes.of(row) for row in rows]
    try:
        return [
            Record(of[r.route], r.timestamp_ms, r.received, r.value, r.identity)
            for r in _decode_records(_body(part))
        ]
    except (msgspec.DecodeError, IndexError) as error:
        raise CorruptChunk from error


def counts(rows: Iterable[RouteRow]) -> Counter[Key]:
    """How many records there are of each key."""
    found: Counter[Key] = Counter()
    for row in rows:
        found[row.key] += row.count
    return found


def message_types(rows: Iterable[RouteRow]) -> Counter[str]:
    """How many records there are of each message type."""
    found: Counter[str] = Counter()
    for row in rows:
        found[row.message_type] += row.count
    return found


def _sealed(body: bytes) -> bytes:
    return crc32(body).to_bytes(_CHECKSUM_BYTES) + body


def _body(part: object) -> bytes:
    """What a part holds. Raises CorruptChunk."""
    if not isinstance(part, bytes):
        raise CorruptChunk
    body = part[_CHECKSUM_BYTES:]
    if _sealed(body) != part:
        raise CorruptChunk
    return body
