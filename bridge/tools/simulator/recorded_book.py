"""The order book of a capture, computed only when REST asks for it."""

import msgspec

Level = tuple[str, str]


class _Update(msgspec.Struct, gc=False):
    u: int
    b: list[Level]
    a: list[Level]


class _Snapshot(msgspec.Struct, gc=False):
    lastUpdateId: int  # noqa: N815 (Binance's own name)
    bids: list[Level]
    asks: list[Level]


_decode_update = msgspec.json.Decoder(_Update).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode


class RecordedBook:
    """One symbol's book. `updates` are (index in the round, payload) in the order played.

    `shift` is the amount by which each round shifts the update ids. Quantities are absolute, so
    the updates of one whole round give the same book as those of many rounds.
    """

    def __init__(self, shift: int = 0) -> None:
        self.updates: list[tuple[int, bytes]] = []
        self._shift = shift
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}
        self._last_update_id = 0
        self._round = 0
        self._applied = 0

    def load(self, payload: bytes) -> None:
        """Start with a recorded REST snapshot; updates that it already contains are skipped."""
        snapshot = _decode_snapshot(payload)
        self._bids = dict(snapshot.bids)
        self._asks = dict(snapshot.asks)
        self._last_update_id = snapshot.lastUpdateId

    def advance(self, round_number: int, index: int) -> None:
        """Apply the updates played so far: earlier rounds, and this round up to before `index`."""
        if round_number > self._round:
            self._round = max(self._round, round_number - 1)
            while self._applied < len(self.updates):
                self._apply(self.updates[self._applied][1])
                self._applied += 1
            self._round, self._applied = round_number, 0
        while self._applied < len(self.updates) and self.updates[self._applied][0] < index:
            self._apply(self.updates[self._applied][1])
            self._applied += 1

    def answer(self, limit: int) -> bytes:
        """Return the best `limit` levels of each side as `/api/v3/depth` answers them."""
        bids = sorted(self._bids.items(), key=_price, reverse=True)[:limit]
        asks = sorted(self._asks.items(), key=_price)[:limit]
        return msgspec.json.encode(_Snapshot(self._last_update_id, bids, asks))

    def _apply(self, payload: bytes) -> None:
        update = _decode_update(payload)
        last_update_id = update.u + self._round * self._shift
        if last_update_id <= self._last_update_id:
            return
        self._last_update_id = last_update_id
        for side, levels in ((self._bids, update.b), (self._asks, update.a)):
            for price, quantity in levels:
                if float(quantity):
                    side[price] = quantity
                else:
                    side.pop(price, None)


def _price(level: Level) -> float:
    return float(level[0])
