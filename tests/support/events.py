"""Shared parts of the core's tests.

One frame of each kind as the exchange sends it, and short ways through the core.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import settings

from bridge.core.binance.decode import Decoded, Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import Event
from bridge.core.model.stream import SPOT
from bridge.core.model.unreadable import UNREADABLE
from bridge.core.records.latest_values import LatestValue
from bridge.core.records.record import Record, Router
from bridge.errors import InvalidFrame

Fields = dict[str, Any]

# Properties are tested on the same cases every time, so that a failure can be reproduced.
repeatable = settings(derandomize=True)

RECEIVED = 1_791_600_000_123_456
TEMPLATE = "{venue}.{message_type}"

# Seen on the wire in 2026, except the 24hrTicker (2019) and those marked as from the documents.
FRAMES: dict[str, str] = {
    "trade": (
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1790960630914,"s":"BTCUSDT",'
        '"t":6732650448,"p":"84922.04000000","q":"0.00023000","T":1790960630913,"m":true,"M":true}}'
    ),
    "aggTrade": (
        '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1791019853438,"s":"BTCUSDT",'
        '"a":4080045245,"p":"84598.05000000","q":"0.00481000","f":6733597947,"l":6733597948,'
        '"T":1791019853437,"m":false,"M":true}}'
    ),
    "bookTicker": (
        '{"stream":"btcusdt@bookTicker","data":{"u":100530416204,"s":"BTCUSDT",'
        '"b":"86704.77000000","B":"4.67811000","a":"86704.78000000","A":"0.73337000"}}'
    ),
    "ticker": (
        '{"stream":"dogebnb@ticker","data":{"e":"24hrTicker","E":1569805259092,"s":"DOGEBNB",'
        '"p":"-0.00000291","P":"-2.068","w":"0.00014188","x":"0.00014069","c":"0.00014360",'
        '"Q":"51135.00000000","b":"0.00014365","B":"7080.00000000","a":"0.00014498",'
        '"A":"275033.00000000","o":"0.00014069","h":"0.00014550","l":"0.00013851",'
        '"v":"20014582.00000000","q":"2839.62578157","O":1569718859088,"C":1569805259088,'
        '"F":64171,"L":64684,"n":514}}'
    ),
    # From the documents.
    **{
        f"ticker_{window}": (
            f'{{"stream":"bnbbtc@ticker_{window}","data":{{"e":"{window}Ticker",'
            '"E":1672515782136,"s":"BNBBTC","p":"0.0015","P":"250.00","o":"0.0010","h":"0.0025",'
            '"l":"0.0009","c":"0.0024","w":"0.0018","v":"10000","q":"18","O":0,'
            '"C":1675216573749,"F":0,"L":18150,"n":18151}}'
        )
        for window in ("1h", "4h", "1d")
    },
    "miniTicker": (
        '{"stream":"btcusdt@miniTicker","data":{"e":"24hrMiniTicker","E":1791296828016,'
        '"s":"BTCUSDT","c":"86128.01000000","o":"86342.54000000","h":"86488.00000000",'
        '"l":"84972.01000000","v":"13426.62951000","q":"1151284684.75282880"}}'
    ),
    "kline": (
        '{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1791142274032,"s":"BTCUSDT","k":{'
        '"t":1791142260000,"T":1791142319999,"s":"BTCUSDT","i":"1m","f":6734731469,'
        '"L":6734731522,"o":"85462.51000000","c":"85462.50000000","h":"85462.52000000",'
        '"l":"85462.49000000","v":"0.29537000","n":54,"x":false,"q":"25243.05602030",'
        '"V":"0.03490000","Q":"2982.64125000","B":"0"}}}'
    ),
    # From the documents.
    "avgPrice": (
        '{"stream":"btcusdt@avgPrice","data":{"e":"avgPrice","E":1693907033000,"s":"BTCUSDT",'
        '"i":"5m","w":"25776.86000000","T":1693907032213}}'
    ),
    "partialDepth": (
        '{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":100530416202,'
        '"bids":[["86704.77000000","4.67805000"],["86704.76000000","0.00224000"]],'
        '"asks":[["86704.78000000","0.73337000"],["86704.79000000","0.00384000"]]}}'
    ),
    "depth": (
        '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1790134512214,'
        '"s":"BTCUSDT","U":100530416194,"u":100530416202,"b":[["86620.48000000","0.42061000"],'
        '["86620.06000000","0.00000000"]],"a":[["86796.74000000","0.00000000"]]}}'
    ),
    "referencePrice": (
        '{"stream":"btcusdt@referencePrice","data":{"e":"referencePrice","s":"BTCUSDT",'
        '"r":"86699.09224517","t":1790134513012}}'
    ),
    # From the documents.
    "blockTrade": (
        '{"stream":"bnbbtc@blockTrade","data":{"e":"blockTrade","E":1772494860125,"s":"BNBBTC",'
        '"t":582,"p":"0.01361000","q":"1200.00000000","T":1772494860123,"m":false}}'
    ),
}


def stream_name(frame: str | bytes) -> str:
    name: str = json.loads(frame)["stream"]
    return name


def decoder(*names: str) -> Decoder:
    return Decoder(map(parse_stream, names))


def router(*names: str) -> Router:
    return Router(map(parse_stream, names), TEMPLATE)


def decode(frame: str | bytes, received: int = RECEIVED) -> Decoded:
    """Decode a frame on a connector that carries only its stream."""
    raw = frame.encode() if isinstance(frame, str) else frame
    return decode_both_ways(decoder(stream_name(frame)), raw, received)


def decode_both_ways(connector: Decoder, frame: bytes, received: int) -> Decoded:
    """Decode a frame, and check that the fast path gives the same result if it applies."""
    try:
        envelope = connector.read(frame)
        state = connector.states[envelope.__class__]
        event = state.normalize(envelope.data, state.stream, received)
    except (*UNREADABLE, InvalidFrame):
        return connector.decode(frame, received)
    if event.symbol == state.symbol:
        assert connector.decode(frame, received) == (state.stream, (event,))
    return connector.decode(frame, received)


def decode_event(frame: str | bytes) -> Event:
    (event,) = events(decode(frame))
    return event


def events(decoded: Decoded) -> Sequence[Event]:
    """Return the events of a frame; none if it is about the connection."""
    return decoded[1] if isinstance(decoded, tuple) else ()


def published(frame: str | bytes, record: Callable[[Event], Record] | None = None) -> list[Fields]:
    """Return the records that consumers get for a frame."""
    record = record or router().record
    return [json.loads(record(event).value) for event in events(decode(frame))]


def changed(kind: str, **fields: Any) -> str:
    """Return a frame of a kind with some fields of its payload changed; None removes a field."""
    envelope = json.loads(FRAMES[kind])
    envelope["data"] |= fields
    envelope["data"] = {key: value for key, value in envelope["data"].items() if value is not None}
    return json.dumps(envelope)


def latest_fields(value: LatestValue, event: Event) -> Fields:
    """Return the fields that an event sets, by name; the first one is the guard."""
    names, contents = value.group.names, value.group.contents(event)
    assert names.endswith("\n")
    assert contents.endswith("\n")
    return dict(zip(names.split("\n")[:-1], contents.split("\n")[:-1], strict=True))


def guard(value: LatestValue) -> str:
    """Return the name of the field that must rise."""
    return value.group.names.split("\n")[0]


def is_price(value: LatestValue) -> bool:
    """Return whether the value goes into the hash of all prices."""
    return value.group.names.split("\n")[1] == "price"


def market_wide(name: str, members: Iterable[Any]) -> str:
    return json.dumps({"stream": name, "data": list(members)})


def payload(kind: str, **fields: Any) -> Fields:
    """Return the payload of a frame of a kind."""
    data: Fields = json.loads(changed(kind, **fields))["data"]
    return data


VENUE = SPOT
