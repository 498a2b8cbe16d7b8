"""The payloads of Binance's spot streams, with the keys of binance.md, section 3, in order."""

from collections.abc import Iterable, Sequence

from bridge.tools.simulator.candles import Bar, Tape
from bridge.tools.simulator.instrument import Fill
from bridge.tools.simulator.listing import decimal
from bridge.tools.simulator.source import Message

Levels = Iterable[tuple[int, int]]


def trade(symbol: str, at_ms: int, fill: Fill) -> bytes:
    return (
        f'{{"e":"trade","E":{at_ms},"s":"{symbol}","t":{fill.trade_id},'
        f'"p":"{decimal(fill.price)}","q":"{decimal(fill.quantity)}",'
        f'"T":{at_ms},"m":{_boolean(not fill.buy)},"M":true}}'
    ).encode()


def aggregate_trade(symbol: str, at_ms: int, aggregate_id: int, fills: Sequence[Fill]) -> bytes:
    """Return the fills of one order, which have one price, as one aggregate trade."""
    quantity = sum(fill.quantity for fill in fills)
    return (
        f'{{"e":"aggTrade","E":{at_ms},"s":"{symbol}","a":{aggregate_id},'
        f'"p":"{decimal(fills[0].price)}","q":"{decimal(quantity)}",'
        f'"f":{fills[0].trade_id},"l":{fills[-1].trade_id},'
        f'"T":{at_ms},"m":{_boolean(not fills[0].buy)},"M":true}}'
    ).encode()


def block_trade(symbol: str, at_ms: int, fill: Fill) -> bytes:
    return (
        f'{{"e":"blockTrade","E":{at_ms},"s":"{symbol}","t":{fill.trade_id},'
        f'"p":"{decimal(fill.price)}","q":"{decimal(fill.quantity)}",'
        f'"T":{at_ms},"m":{_boolean(not fill.buy)}}}'
    ).encode()


def quote(symbol: str, update_id: int, top: tuple[int, int, int, int]) -> bytes:
    """Return a `bookTicker`; `top` is the bid, its quantity, the ask, its quantity."""
    bid, bid_quantity, ask, ask_quantity = map(decimal, top)
    return (
        f'{{"u":{update_id},"s":"{symbol}",'
        f'"b":"{bid}","B":"{bid_quantity}","a":"{ask}","A":"{ask_quantity}"}}'
    ).encode()


def depth_update(  # noqa: PLR0913, PLR0917 (Binance's six)
    symbol: str, at_ms: int, first_id: int, last_id: int, bids: Levels, asks: Levels
) -> bytes:
    return (
        f'{{"e":"depthUpdate","E":{at_ms},"s":"{symbol}","U":{first_id},"u":{last_id},'
        f'"b":{_levels(bids)},"a":{_levels(asks)}}}'
    ).encode()


def book(update_id: int, bids: Levels, asks: Levels) -> bytes:
    """Return a partial depth, which is also the REST answer to `/depth`."""
    return (
        f'{{"lastUpdateId":{update_id},"bids":{_levels(bids)},"asks":{_levels(asks)}}}'
    ).encode()


def day_ticker(
    symbol: str, at_ms: int, day: Bar, tape: Tape, top: tuple[int, int, int, int]
) -> bytes:
    bid, bid_quantity, ask, ask_quantity = map(decimal, top)
    return (
        f'{{"e":"24hrTicker","E":{at_ms},"s":"{symbol}",{_change(day)},"x":"{decimal(day.open)}",'
        f'"c":"{decimal(day.close)}","Q":"{decimal(tape.last_quantity)}",'
        f'"b":"{bid}","B":"{bid_quantity}","a":"{ask}","A":"{ask_quantity}",'
        f"{_figures(day)},{_extent(day, at_ms)}}}"
    ).encode()


def window_ticker(symbol: str, at_ms: int, window: str, bar: Bar) -> bytes:
    """Return a `ticker_1h`, `ticker_4h` or `ticker_1d`: no quote and no last quantity."""
    return (
        f'{{"e":"{window}Ticker","E":{at_ms},"s":"{symbol}",{_change(bar)},'
        f'"c":"{decimal(bar.close)}",{_figures(bar)},{_extent(bar, at_ms)}}}'
    ).encode()


def mini_ticker(symbol: str, at_ms: int, day: Bar) -> bytes:
    return (
        f'{{"e":"24hrMiniTicker","E":{at_ms},"s":"{symbol}",'
        f'"c":"{decimal(day.close)}",{_figures(day)}}}'
    ).encode()


def candle(  # noqa: PLR0913 (a row of figures)
    symbol: str, at_ms: int, interval: str, close_ms: int, bar: Bar, *, closed: bool
) -> bytes:
    return (
        f'{{"e":"kline","E":{at_ms},"s":"{symbol}","k":{{"t":{bar.open_ms},"T":{close_ms},'
        f'"s":"{symbol}","i":"{interval}","f":{bar.first_id},"L":{bar.last_id},'
        f'"o":"{decimal(bar.open)}","c":"{decimal(bar.close)}",'
        f'"h":"{decimal(bar.high)}","l":"{decimal(bar.low)}","v":"{decimal(bar.volume)}",'
        f'"n":{bar.trades},"x":{_boolean(closed)},"q":"{decimal(bar.quote_volume)}",'
        f'"V":"{decimal(bar.taker_volume)}","Q":"{decimal(bar.taker_quote_volume)}","B":"0"}}}}'
    ).encode()


def average_price(symbol: str, at_ms: int, price: int, last_trade_ms: int) -> bytes:
    return (
        f'{{"e":"avgPrice","E":{at_ms},"s":"{symbol}","i":"5m",'
        f'"w":"{decimal(price)}","T":{last_trade_ms}}}'
    ).encode()


def reference_price(symbol: str, at_ms: int, price: int) -> bytes:
    return (f'{{"e":"referencePrice","s":"{symbol}","r":"{decimal(price)}","t":{at_ms}}}').encode()


def server_shutdown(at_ms: int) -> Message:
    """Return the announcement with the name of the combined form; it belongs to no stream."""
    return "!serverShutdown", f'{{"e":"serverShutdown","E":{at_ms}}}'.encode()


def _change(bar: Bar) -> str:
    change = bar.close - bar.open
    return (
        f'"p":"{decimal(change)}","P":"{100 * change / bar.open:.3f}",'
        f'"w":"{decimal(bar.weighted_average)}"'
    )


def _figures(bar: Bar) -> str:
    return (
        f'"o":"{decimal(bar.open)}","h":"{decimal(bar.high)}","l":"{decimal(bar.low)}",'
        f'"v":"{decimal(bar.volume)}","q":"{decimal(bar.quote_volume)}"'
    )


def _extent(bar: Bar, at_ms: int) -> str:
    return f'"O":{bar.open_ms},"C":{at_ms},"F":{bar.first_id},"L":{bar.last_id},"n":{bar.trades}'


def _levels(levels: Levels) -> str:
    rows = ",".join(f'["{decimal(price)}","{decimal(quantity)}"]' for price, quantity in levels)
    return f"[{rows}]"


def _boolean(value: bool) -> str:  # noqa: FBT001 (it is the value, not a switch)
    return "true" if value else "false"
