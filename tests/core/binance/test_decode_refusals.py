import json
from typing import Any, get_args

import pytest

from bridge.core.binance.decode import MAX_FRAME_BYTES
from bridge.core.model.events import Trade
from bridge.errors import INVALID_REASONS, InvalidFrame, InvalidReason
from tests.support.events import (
    FRAMES,
    RECEIVED,
    changed,
    decode,
    decoder,
    events,
    payload,
)

TRADE = FRAMES["trade"]
DEEP = "[" * 100_000
INT64_MAX = 2**63 - 1


def refused(frame: str | bytes, *names: str) -> InvalidFrame:
    raw = frame.encode() if isinstance(frame, str) else frame
    with pytest.raises(InvalidFrame) as caught:
        decoder(*(names or ("btcusdt@trade",))).decode(raw, RECEIVED)
    return caught.value


def refused_payload(kind: str, **fields: Any) -> InvalidFrame:
    frame = changed(kind, **fields)
    return refused(frame, json.loads(frame)["stream"])


@pytest.mark.parametrize(
    ("reason", "frame"),
    [
        ("malformed", TRADE[:-1]),
        ("mistyped", TRADE.replace("6732650448", '"6732650448"')),
        ("not_a_number", TRADE.replace("84922.04000000", "84922,04")),
        ("unknown_type", TRADE.replace('"e":"trade"', '"e":"trade2"')),
        ("unknown_stream", TRADE.replace("btcusdt@trade", "ethusdt@trade")),
        ("wrong_symbol", TRADE.replace("BTCUSDT", "ETHUSDT")),
        ("oversized", " " * (MAX_FRAME_BYTES + 1)),
    ],
)
def test_a_bad_frame_is_refused_with_its_reason(reason: InvalidReason, frame: str) -> None:
    assert refused(frame).reason == reason


def test_every_reason_but_a_binary_frame_is_the_decoders() -> None:
    assert set(INVALID_REASONS) == set(get_args(InvalidReason))
    tested = next(
        mark.args[1]
        for mark in test_a_bad_frame_is_refused_with_its_reason.pytestmark  # type: ignore[attr-defined]
    )
    # The decoder never gets a binary frame: the connector refuses it.
    assert {reason for reason, _ in tested} == set(INVALID_REASONS) - {"binary"}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b" ",
        b"null",
        b"17",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"not json",
        b'{"stream":"btcusdt@trade"}',
        b'{"data":{}}',
        b'{"stream":17,"data":{}}',
        b'{"stream":null,"data":{}}',
        TRADE.encode() * 2,
        TRADE.encode() + b"x",
        TRADE.replace("BTCUSDT", "BTC\udcffUSDT").encode(errors="surrogateescape"),
        TRADE.replace("btcusdt@", "btc\udcffusdt@").encode(errors="surrogateescape"),
        TRADE.replace("BTCUSDT", "\\ud800").encode(),
        TRADE.replace("6732650448", "NaN").encode(),
        TRADE.replace("6732650448", "Infinity").encode(),
        TRADE.replace("6732650448", "1_000").encode(),
        TRADE.replace("6732650448", "06").encode(),
        json.dumps(json.loads(TRADE)["data"]).encode(),
    ],
)
def test_what_is_no_combined_frame_is_malformed(frame: bytes) -> None:
    assert refused(frame).reason == "malformed"


@pytest.mark.parametrize(
    "frame",
    [
        DEEP,
        DEEP + DEEP.replace("[", "]"),
        '{"stream":"btcusdt@trade","data":' + DEEP,
        '{"stream":"btcusdt@trade","data":' + DEEP + "]" * len(DEEP) + "}",
        TRADE.replace('"M":true', '"M":' + DEEP),
        '{"id":1,"result":' + DEEP,
        '{"a":' * 100_000,
    ],
)
def test_deep_nesting_is_a_bad_frame_not_the_end_of_the_process(frame: str) -> None:
    assert refused(frame).reason == "malformed"


def test_a_frame_of_exactly_the_limit_is_read() -> None:
    padded = TRADE + " " * (MAX_FRAME_BYTES - len(TRADE))
    assert len(events(decode(padded))) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "nan", "inf", "-inf", "Infinity", "1e5", "1E-8", "0x10", "1_000", "1,5"),
        *(" 1", "1 ", "1 2", "", " ", ".", "1.", ".5", "1.2.3", "-5", "+5", "--5", "5-", "1\n"),
        *("\uff11\uff12", "\u0663", "½", "1\x00"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        *(("trade", key) for key in "pq"),
        *(("aggTrade", key) for key in "pq"),
        *(("blockTrade", key) for key in "pq"),
        *(("bookTicker", key) for key in "bBaA"),
        *(("ticker", key) for key in "wcbBaAohlvq"),
        *(("ticker_1h", key) for key in "wcohlvq"),
        *(("miniTicker", key) for key in "cohlvq"),
        *(("kline", f"k{key}") for key in "ochlvqVQ"),
        ("avgPrice", "w"),
        ("referencePrice", "r"),
    ],
)
def test_no_field_takes_what_is_no_plain_number(kind: str, path: str, text: str) -> None:
    data: dict[str, Any] = {path: text}
    if len(path) > 1:
        data = {"k": payload(kind)["k"] | {path[1]: text}}
    error = refused_payload(kind, **data)
    assert error.reason == "not_a_number"
    assert repr(text) in error.detail


@pytest.mark.parametrize("text", ["1e5", "", "1.", "--5", "- 5", "nan"])
@pytest.mark.parametrize("key", ["p", "P"])
def test_a_change_may_be_negative_but_must_be_a_number(key: str, text: str) -> None:
    assert refused_payload("ticker", **{key: text}).reason == "not_a_number"


@pytest.mark.parametrize(
    ("kind", "sides"), [("depth", ("b", "a")), ("partialDepth", ("bids", "asks"))]
)
@pytest.mark.parametrize(
    ("level", "reason"),
    [
        (["1", "x"], "not_a_number"),
        (["", "1"], "not_a_number"),
        (["1 2", "3"], "not_a_number"),
        (["1"], "mistyped"),
        (["1", "2", "3"], "mistyped"),
        ([1, 2], "mistyped"),
        ("12", "mistyped"),
        (None, "mistyped"),
    ],
)
def test_a_bad_level_spoils_its_book(
    kind: str, sides: tuple[str, str], level: object, reason: str
) -> None:
    for side in sides:
        assert refused_payload(kind, **{side: [["1", "2"], level]}).reason == reason


@pytest.mark.parametrize(
    "number",
    [-1, INT64_MAX + 1, 2**64, -(2**63), 10**30, 1.5, 1.0, True, "1", [], {}],
)
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        *(("trade", key) for key in "tT"),
        *(("aggTrade", key) for key in "aflT"),
        ("bookTicker", "u"),
        *(("ticker", key) for key in "EOCn"),
        ("miniTicker", "E"),
        *(("kline", f"k{key}") for key in "tTn"),
        ("kline", "E"),
        ("avgPrice", "E"),
        ("partialDepth", "lastUpdateId"),
        *(("depth", key) for key in "EUu"),
        ("referencePrice", "t"),
        *(("blockTrade", key) for key in "tT"),
    ],
)
def test_ids_and_times_are_whole_positive_and_fit_64_bits(
    kind: str, path: str, number: object
) -> None:
    data: dict[str, Any] = {path: number}
    if path.startswith("k"):
        data = {"k": payload(kind)["k"] | {path[1]: number}}
    assert refused_payload(kind, **data).reason == "mistyped"


def test_the_greatest_id_is_read() -> None:
    (event,) = events(decode(changed("trade", t=INT64_MAX)))
    assert isinstance(event, Trade)
    assert event.trade_id == INT64_MAX


@pytest.mark.parametrize("kind", FRAMES)
def test_every_field_an_event_needs_must_be_there(kind: str) -> None:
    # These keys are not read: E if T is more exact, keys that are not published, and `e`, which the
    # stream name replaces.
    passed_over = {"e", "M", "x", "Q", "F", "L"}
    passed_over |= {"trade": {"E"}, "aggTrade": {"E"}, "blockTrade": {"E"}, "avgPrice": {"T"}}.get(
        kind, set()
    )
    for key in payload(kind).keys() - passed_over:
        assert refused_payload(kind, **{key: None}).reason == "mistyped", key


@pytest.mark.parametrize("kind", [kind for kind in FRAMES if "e" in payload(kind)])
@pytest.mark.parametrize("tag", ["", "Trade", "depth", 5, [], "trade "])
def test_another_event_type_than_the_streams_is_unknown(kind: str, tag: object) -> None:
    assert refused_payload(kind, e=tag).reason == "unknown_type"


@pytest.mark.parametrize("kind", [kind for kind in FRAMES if "s" in payload(kind)])
def test_another_symbol_than_the_streams_is_refused(kind: str) -> None:
    error = refused_payload(kind, s="ETHUSDT")
    assert error.reason == "wrong_symbol"
    assert "'ETHUSDT' on " in error.detail


@pytest.mark.parametrize(
    "frame",
    [
        changed("trade", s="A" * 500_000),
        changed("trade", p="1" * 500_000 + "x"),
        changed("trade", e="A" * 500_000),
        changed("trade", t="A" * 500_000),
        TRADE.replace("btcusdt@trade", "a" * 500_000),
        '{"' + "a" * 500_000,
    ],
)
def test_the_detail_of_a_bad_frame_is_short(frame: str) -> None:
    assert len(refused(frame).detail) < 300
