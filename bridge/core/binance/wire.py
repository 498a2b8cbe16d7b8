"""Binance's spot payloads as sent on the wire: one struct per payload, with the exchange's keys.

Some keys differ only in case (`t` is an id, `T` is a time). The exchange adds keys without notice;
unknown keys are ignored. `e` is checked if the payload has it. bookTicker and partial depth do not
have it, so the stream's name selects the struct instead of a tagged union.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

# Ids and times are never negative; Kafka always refuses a record with a negative time. They must
# fit into the signed 64-bit integers of consumers, because msgspec alone accepts any integer.
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Levels = list[tuple[str, str]]


class Wire(msgspec.Struct, frozen=True, gc=False, tag_field="e"):
    """A payload with its event type in `e`."""


class Untagged(msgspec.Struct, frozen=True, gc=False):
    """A payload without `e`."""


class Trade(Wire, frozen=True, gc=False, tag="trade"):
    s: str
    t: Natural
    p: str
    q: str
    T: Natural
    m: bool


class AggTrade(Wire, frozen=True, gc=False, tag="aggTrade"):
    s: str
    a: Natural
    p: str
    q: str
    f: Natural
    l: Natural  # noqa: E741 - the exchange's key
    T: Natural
    m: bool


class BookTicker(Untagged, frozen=True, gc=False):
    u: Natural
    s: str
    b: str
    B: str
    a: str
    A: str


class WindowTicker(msgspec.Struct, frozen=True, gc=False):
    """The ticker of a rolling window; `e` is `1hTicker` and so on, one value for each window."""

    E: Natural
    s: str
    p: str
    P: str
    w: str
    c: str
    o: str
    h: str
    l: str  # noqa: E741 - the exchange's key
    v: str
    q: str
    O: Natural  # noqa: E741 - the exchange's key
    C: Natural
    n: Natural


class WindowTicker1h(WindowTicker, frozen=True, gc=False, tag_field="e", tag="1hTicker"):
    pass


class WindowTicker4h(WindowTicker, frozen=True, gc=False, tag_field="e", tag="4hTicker"):
    pass


class WindowTicker1d(WindowTicker, frozen=True, gc=False, tag_field="e", tag="1dTicker"):
    pass


class Ticker(WindowTicker, frozen=True, gc=False, tag_field="e", tag="24hrTicker"):
    b: str
    B: str
    a: str
    A: str


class MiniTicker(Wire, frozen=True, gc=False, tag="24hrMiniTicker"):
    E: Natural
    s: str
    c: str
    o: str
    h: str
    l: str  # noqa: E741 - the exchange's key
    v: str
    q: str


class KlineBody(msgspec.Struct, frozen=True, gc=False):
    t: Natural
    T: Natural
    o: str
    c: str
    h: str
    l: str  # noqa: E741 - the exchange's key
    v: str
    n: Natural
    x: bool
    q: str
    V: str
    Q: str


class Kline(Wire, frozen=True, gc=False, tag="kline"):
    E: Natural
    s: str
    k: KlineBody


class AvgPrice(Wire, frozen=True, gc=False, tag="avgPrice"):
    E: Natural
    s: str
    i: str
    w: str


class PartialDepth(Untagged, frozen=True, gc=False):
    lastUpdateId: Natural  # noqa: N815 - the exchange's key
    bids: Levels
    asks: Levels


class Depth(Wire, frozen=True, gc=False, tag="depthUpdate"):
    E: Natural
    s: str
    U: Natural
    u: Natural
    b: Levels
    a: Levels


class ReferencePrice(Wire, frozen=True, gc=False, tag="referencePrice"):
    s: str
    r: str | None
    t: Natural


class BlockTrade(Wire, frozen=True, gc=False, tag="blockTrade"):
    s: str
    t: Natural
    p: str
    q: str
    T: Natural
    m: bool


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A frame of the combined form; the stream's own decoder reads `data`."""

    stream: str
    data: msgspec.Raw


class ReplyError(msgspec.Struct, frozen=True):
    code: int
    msg: str


class Reply(msgspec.Struct, frozen=True, rename={"request_id": "id"}):
    """An answer to a control message, without an envelope.

    Errors are documented as flat but arrive nested: both forms are read.
    """

    request_id: int | str | None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: ReplyError | None = None
    code: int | None = None
    msg: str | None = None


class ServerShutdown(Wire, frozen=True, gc=False, tag="serverShutdown"):
    """The exchange will close this connection soon; it promises no lead time."""

    E: Natural
