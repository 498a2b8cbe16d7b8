"""An order book in whole numbers, with its changes and their update ids."""

from collections.abc import Iterable

Side = dict[int, int]


class Book:
    """Prices and quantities in units of 1e-8. Every change of a level takes the next update id.

    A change replaces the quantity of a level; zero removes the level. The best price of a side
    without levels is zero.
    """

    def __init__(self, first_update_id: int) -> None:
        self.update_id = first_update_id
        self.bids: Side = {}
        self.asks: Side = {}
        self.best_bid = 0
        self.best_ask = 0
        self._recorders: list[Recorder] = []

    def recorder(self) -> "Recorder":
        """Return a new recorder of the changes from now on."""
        recorder = Recorder(self.update_id)
        self._recorders.append(recorder)
        return recorder

    def forget(self, recorder: "Recorder") -> None:
        self._recorders.remove(recorder)

    def set_bid(self, price: int, quantity: int) -> None:
        self._set(self.bids, price, quantity)
        if price >= self.best_bid:
            self.best_bid = price if quantity else max(self.bids, default=0)
        for recorder in self._recorders:
            recorder.bids.add(price)

    def set_ask(self, price: int, quantity: int) -> None:
        self._set(self.asks, price, quantity)
        if not self.best_ask or price <= self.best_ask:
            self.best_ask = price if quantity else min(self.asks, default=0)
        for recorder in self._recorders:
            recorder.asks.add(price)

    def top(self) -> tuple[int, int, int, int]:
        """Return the best bid, its quantity, the best ask, its quantity."""
        bid, ask = self.best_bid, self.best_ask
        return bid, self.bids[bid], ask, self.asks[ask]

    def best_bids(self, limit: int) -> list[tuple[int, int]]:
        return sorted(self.bids.items(), reverse=True)[:limit]

    def best_asks(self, limit: int) -> list[tuple[int, int]]:
        return sorted(self.asks.items())[:limit]

    def _set(self, side: Side, price: int, quantity: int) -> None:
        self.update_id += 1
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)


class Recorder:
    """The levels that have changed since the last depth update of one rate (1 s or 100 ms)."""

    __slots__ = ("asks", "bids", "last_update_id")

    def __init__(self, last_update_id: int) -> None:
        self.bids: set[int] = set()
        self.asks: set[int] = set()
        self.last_update_id = last_update_id

    def flush(self, book: Book) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the first new update id, and the changed levels of both sides as they are now."""
        first_update_id = self.last_update_id + 1
        bids = _levels(book.bids, sorted(self.bids, reverse=True))
        asks = _levels(book.asks, sorted(self.asks))
        self.bids.clear()
        self.asks.clear()
        self.last_update_id = book.update_id
        return first_update_id, bids, asks


def _levels(side: Side, prices: Iterable[int]) -> list[tuple[int, int]]:
    return [(price, side.get(price, 0)) for price in prices]
