"""The latest values of all symbols, as Redis has them, and the last trades of those looked at."""

from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import msgspec

from bridge.core.model.events import Book, Event
from bridge.core.records.latest_values import Group
from bridge.core.records.record import Record, Route

# Ten minutes: a price of each symbol every 10 s.
SAMPLE_S = 10.0
MAX_SAMPLES = 60
MAX_TRADES = 30
# The price of a moment when there was none yet.
_NO_PRICE = float("nan")
# These parts of a row are no cells of the table: the page of the symbol shows them.
_ONLY_OF_THE_PAGE = frozenset(("quote", "book"))
_BOOK: Mapping[type[Event], Sequence[str]] = {Book: ("book",)}
_TRADES = ("trade", "agg_trade")

# The price, and that of a day ago.
Cells = tuple[str | None, str | None]


class Row(msgspec.Struct, eq=False):
    """The last events of one symbol that set its latest values, and its recent prices."""

    price: Any = None
    quote: Any = None
    day: Any = None
    book: Book | None = None
    prices: "array[float]" = msgspec.field(default_factory=lambda: array("d"))

    def cells(self) -> Cells:
        """Return the cells of the table of prices."""
        return (
            self.price.price if self.price else None,
            self.day.open if self.day else None,
        )


class Market:
    """Listens to the pipeline. `push` costs little; the work is done a few times a second."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._changed: dict[Route, Event] = {}
        self._unseen: set[str] = set()
        # The last trades of the symbols that viewers look at, as JSON, and how many do.
        self._trades: dict[str, deque[bytes]] = {}
        self._lookers: Counter[str] = Counter()

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        """Take the records of one read, and the last event of each route."""
        self._changed.update(latest)
        if self._trades:
            for record in records:
                route = record.route
                if route.symbol in self._trades and _is_trade_with_price(route):
                    self._trades[route.symbol].appendleft(record.value)

    def changed(self) -> set[str]:
        """Bring the rows up to date, and return the symbols whose cells have changed since the last
        call.
        """
        self._fold()
        changed, self._unseen = self._unseen, set()
        return changed

    def remove(self, symbols: set[str]) -> None:
        """Forget symbols that are no longer subscribed to."""
        for symbol in symbols:
            self.rows.pop(symbol, None)

    def sample(self) -> None:
        """Keep the present prices."""
        self._fold()
        for row in self.rows.values():
            row.prices.append(float(row.price.price) if row.price else _NO_PRICE)
            del row.prices[:-MAX_SAMPLES]

    @contextmanager
    def looked_at(self, symbol: str) -> Iterator[None]:
        """Keep the last trades of a symbol while the context is open."""
        if symbol not in self._trades:
            self._fold()
            self._trades[symbol] = deque(self._last_trade(symbol), maxlen=MAX_TRADES)
        self._lookers[symbol] += 1
        try:
            yield
        finally:
            self._lookers[symbol] -= 1
            if not self._lookers[symbol]:
                del self._lookers[symbol], self._trades[symbol]

    def trades(self, symbol: str) -> list[msgspec.Raw]:
        """Return the last trades of a symbol that is looked at, newest first."""
        return [msgspec.Raw(value) for value in self._trades.get(symbol, ())]

    def _fold(self) -> None:
        changed, self._changed = self._changed, {}
        for route, event in changed.items():
            if slots := _slots(route, event):
                row = self.rows.get(route.symbol)
                if row is None:
                    row = self.rows[route.symbol] = Row()
                for slot in slots:
                    setattr(row, slot, event)
                if not _ONLY_OF_THE_PAGE.issuperset(slots):
                    self._unseen.add(route.symbol)

    def _last_trade(self, symbol: str) -> list[bytes]:
        price = self.rows[symbol].price if symbol in self.rows else None
        tag = price.__struct_config__.tag if price else None
        return [msgspec.json.encode(price)] if tag in _TRADES else []


def _is_trade_with_price(route: Route) -> bool:
    """Return whether these are the trades that set the price: others would come twice."""
    return route.message_type in _TRADES and bool(route.latest)


def _slots(route: Route, event: Event) -> Sequence[str]:
    """Return the parts of a row that an event sets."""
    return [_slot(value.group) for value in route.latest] or _BOOK.get(event.__class__, ())


@cache
def _slot(group: Group) -> Literal["price", "quote", "day"]:
    """Return the part of a row that a group of latest values belongs to."""
    names = group.names.split()
    if "price" in names:
        return "price"
    return "quote" if "bid_price" in names else "day"
