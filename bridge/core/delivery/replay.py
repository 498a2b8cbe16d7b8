"""Find the records read back from disk that are already in their topics."""

from collections import Counter, deque
from collections.abc import Iterable

from bridge.core.records.record import Record, RouteKey


class ReplayMatcher:
    """Compares the records of an earlier process, in their order, with the content of the topics.

    The records of each symbol were sent in order. So every record up to the last committed one was
    either committed or dropped. `first_ms` is the time from which to read each topic.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.first_ms: dict[str, int] = {}
        # How many records, from the start of each symbol, must not be sent again.
        self.committed: Counter[RouteKey] = Counter()
        self._places: dict[RouteKey, dict[bytes, deque[int]]] = {}
        self._counts: Counter[RouteKey] = Counter()
        for record in records:
            self._add(record)

    def see(self, topic: str, key: bytes, value: bytes) -> None:
        """Compare one record of a topic; the records of each partition come in order."""
        route_key = (topic, key)
        places = self._places.get(route_key, {}).get(value)
        while places and places[0] < self.committed[route_key]:
            places.popleft()
        if places:
            self.committed[route_key] = places.popleft() + 1

    def _add(self, record: Record) -> None:
        key = record.route.route_key
        # Kafka has one of the two.
        time = min(record.timestamp_ms, record.received // 1000)
        self.first_ms[key[0]] = min(time, self.first_ms.get(key[0], time))
        places = self._places.setdefault(key, {})
        places.setdefault(record.value, deque()).append(self._counts[key])
        self._counts[key] += 1
