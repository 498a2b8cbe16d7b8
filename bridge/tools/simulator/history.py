"""The trades of the market as REST knows them, whether or not a client was subscribed.

Recording keeps the payload and decodes it only when asked, so that it costs one look-up and one
append while the market plays.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_DOWN, Decimal
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from bridge.tools.simulator.fields import ascii_lower
from bridge.tools.simulator.source import Message

TRADES_KEPT = 200_000  # per symbol, and as many aggregate trades

_EIGHT_DECIMALS = Decimal("0.00000001")

Row = dict[str, Any]


class _Trade(msgspec.Struct, gc=False):
    t: int
    p: str
    q: str
    T: int
    m: bool


class _AggregateTrade(msgspec.Struct, gc=False):
    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 (Binance's own name)
    T: int
    m: bool


_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_aggregate = msgspec.json.Decoder(_AggregateTrade).decode


class PlayedTrade(NamedTuple):
    """A trade or an aggregate trade; price and quantity as in the stream."""

    id: int
    price: str
    quantity: str
    time_ms: int
    buyer_is_maker: bool


class History:
    """The last trades of each kind of each symbol; the oldest are dropped first.

    `counts` has the number of messages played since the start, by stream and of any kind. It is
    kept with `counting` only, because that costs a fifth of the rate of a flat-out replay.
    """

    def __init__(
        self, symbols: Iterable[str], trades_kept: int = TRADES_KEPT, *, counting: bool = False
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._counting = counting
        self._rings: dict[str, deque[bytes]] = {
            f"{ascii_lower(symbol)}@{kind}": deque(maxlen=trades_kept)
            for symbol in symbols
            for kind in ("trade", "aggTrade", "blockTrade")
        }

    def record(self, messages: Sequence[Message]) -> None:
        """Keep the trades among these messages, which come in the order played."""
        rings = self._rings
        if self._counting:
            self.counts.update(map(itemgetter(0), messages))
        for stream, payload in messages:
            if stream in rings:
                rings[stream].append(payload)

    def forget(self, stream: str) -> None:
        """Drop the kept trades of a stream, whose ids start again.

        Raises KeyError as `played` does.
        """
        self._rings[stream].clear()

    def played(self, stream: str) -> list[PlayedTrade]:
        """Return the kept trades of a stream such as `btcusdt@trade`, in the order played.

        Raises KeyError if the stream does not carry trades of one of the symbols.
        """
        if not stream.endswith("@aggTrade"):
            trades = map(_decode_trade, self._rings[stream])
            return [PlayedTrade(trade.t, trade.p, trade.q, trade.T, trade.m) for trade in trades]
        aggregates = map(_decode_aggregate, self._rings[stream])
        return [PlayedTrade(one.a, one.p, one.q, one.T, one.m) for one in aggregates]

    def id_range(self, stream: str) -> tuple[int, int] | None:
        """Return the first and the last id of `played`, both included; None before the first."""
        ring = self._rings[stream]
        id_of = _aggregate_id if stream.endswith("@aggTrade") else _trade_id
        return (id_of(ring[0]), id_of(ring[-1])) if ring else None

    def trades(self, symbol: str, from_id: int | None, limit: int) -> list[Row]:
        """Return rows of `/historicalTrades` from `from_id` on, or the latest ones."""
        ring = self._rings[f"{ascii_lower(symbol)}@trade"]
        return [_trade_row(payload) for payload in _page(ring, from_id, limit, _trade_id)]

    def aggregate_trades(
        self, symbol: str, from_id: int | None, times_ms: tuple[int | None, int | None], limit: int
    ) -> list[Row]:
        """Return rows of `/aggTrades`.

        They are from an id on, between two times (both included), or the latest.
        """
        ring = self._rings[f"{ascii_lower(symbol)}@aggTrade"]
        begin_ms, end_ms = times_ms
        if begin_ms is None and end_ms is None:
            page = _page(ring, from_id, limit, _aggregate_id)
        else:
            begin = 0 if begin_ms is None else bisect_left(ring, begin_ms, key=_aggregate_time)
            end = (
                len(ring) if end_ms is None else bisect_left(ring, end_ms + 1, key=_aggregate_time)
            )
            page = _slice(ring, begin if begin_ms is not None else max(0, end - limit), end)[:limit]
        return [_aggregate_row(payload) for payload in page]

    def block_trades(self, symbol: str, from_id: int, limit: int) -> list[Row]:
        """Return rows of `/historicalBlockTrades` from `from_id` on."""
        ring = self._rings[f"{ascii_lower(symbol)}@blockTrade"]
        rows = [_trade_row(payload) for payload in _page(ring, from_id, limit, _trade_id)]
        return [{key: row[key] for key in row if key != "isBestMatch"} for row in rows]

    def price(self, symbol: str) -> str | None:
        """Return the price of the last trade; None before the first."""
        for kind in ("trade", "aggTrade"):
            if ring := self._rings[f"{ascii_lower(symbol)}@{kind}"]:
                return str(msgspec.json.decode(ring[-1])["p"])
        return None


def _page(
    ring: deque[bytes], from_id: int | None, limit: int, id_of: Callable[[bytes], int]
) -> Sequence[bytes]:
    begin = len(ring) - limit if from_id is None else bisect_left(ring, from_id, key=id_of)
    return _slice(ring, max(0, begin), begin + limit)


def _slice(ring: deque[bytes], begin: int, end: int) -> list[bytes]:
    return list(islice(ring, begin, end))


def _trade_id(payload: bytes) -> int:
    return _decode_trade(payload).t


def _aggregate_id(payload: bytes) -> int:
    return _decode_aggregate(payload).a


def _aggregate_time(payload: bytes) -> int:
    return _decode_aggregate(payload).T


def _trade_row(payload: bytes) -> Row:
    trade = _decode_trade(payload)
    quote = (Decimal(trade.p) * Decimal(trade.q)).quantize(_EIGHT_DECIMALS, ROUND_DOWN)
    return {
        "id": trade.t,
        "price": trade.p,
        "qty": trade.q,
        "quoteQty": f"{quote:f}",
        "time": trade.T,
        "isBuyerMaker": trade.m,
        "isBestMatch": True,
    }


def _aggregate_row(payload: bytes) -> Row:
    trade = _decode_aggregate(payload)
    return {
        "a": trade.a,
        "p": trade.p,
        "q": trade.q,
        "f": trade.f,
        "l": trade.l,
        "T": trade.T,
        "m": trade.m,
        "M": True,
    }
