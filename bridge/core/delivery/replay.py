"""Which of the records that were brought back from disk are in their topics already."""

from collections import Counter, deque
from collections.abc import Iterable

from bridge.core.records.record import Key, Record


class ReplayMatcher:
    """Records of a process that has gone, in their order, held against what topics hold.

    Each symbol's records were sent in their order: those up to the last that has committed have
    committed, or were given up in between. `first_ms` is where to begin looking, by topic.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.first_ms: dict[str, int] = {}
        # How many of each symbol's first records are not to be sent any more.
        self.committed: Counter[Key] = Counter()
        self._places: dict[Key, dict[bytes, deque[int]]] = {}
        self._counts: Counter[Key] = Counter()
        for record in records:
            self._add(record)

    def see(self, topic: str, key: bytes, value: bytes) -> None:
        """Look at a record of a topic, each partition's in its order."""
        name = (topic, key)
        places = self._places.get(name, {}).get(value)
        while places and places[0] < self.committed[name]:
            places.popleft()
        if places:
            self.committed[name] = places.popleft() + 1

    def _add(self, record: Record) -> None:
        key, time = record.route.name, record.timestamp_ms
        self.first_ms[key[0]] = min(time, self.first_ms.get(key[0], time))
        places = self._places.setdefault(key, {})
        places.setdefault(record.value, deque()).append(self._counts[key])
        self._counts[key] += 1
