"""The whole market: every symbol plays its share of one recorded minute."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.sequencing.sequencers import Sequencers
from bridge.tools.bench.whole_market import LEAST_SHARE, MINUTE_US, whole_market
from bridge.tools.simulator import Capture, Frame
from bridge.tools.simulator.batch import Batch, Form

SYMBOLS = 200
KINDS = ("trade", "bookTicker", "depth@100ms")


def recorded(symbol: str, minutes: int = 3) -> Capture:
    """Return a capture with a message of each kind every 10 ms, and a burst in the middle."""
    middle_us, count = minutes * MINUTE_US // 2, minutes * MINUTE_US // 10_000
    times_us = sorted(n * 10_000 if n % 100 else middle_us for n in range(count))
    frames = [
        Frame(at_us, f"{symbol}@{kind}", _payload(kind, number))
        for number, at_us in enumerate(times_us)
        for kind in KINDS
    ]
    return Capture(Path(symbol), frames)


def _payload(kind: str, number: int) -> bytes:
    message: dict[str, object] = {"s": "AUSDT"}
    match kind:
        case "trade":
            message |= {"e": "trade", "E": 1, "t": number, "p": "1.5", "q": "2", "T": 1}
            message |= {"m": True, "M": True}
        case "bookTicker":
            message |= {"u": 9 * number, "b": "1", "B": "2", "a": "3", "A": "4"}
        case _:
            message |= {"e": "depthUpdate", "E": 1, "U": 5 * number, "u": 5 * number + 4}
            message |= {"b": [["1", "2"]], "a": []}
    return msgspec.json.encode(message)


@pytest.fixture(scope="module")
def market() -> Capture:
    return whole_market([recorded("ausdt"), recorded("busdt")], SYMBOLS)


def test_no_symbol_has_a_hole_in_its_ids(market: Capture) -> None:
    names = list(dict.fromkeys(frame.stream for frame in market.frames))
    streams = [parse_stream(name) for name in names]
    decoder, sequencers = Decoder(streams), Sequencers(streams)
    messages = [(frame.stream, frame.payload) for frame in market.frames]
    for text in Batch(messages).texts(names, Form(combined=True, microseconds=False)):
        decoded = decoder.decode(text, 0)
        assert isinstance(decoded, tuple)
        stream, (event,) = decoded
        assert sequencers.sequencer(stream, event).accept(event) == (event,)


def test_each_symbol_plays_a_smaller_share_down_to_the_least(market: Capture) -> None:
    counts = Counter(frame.stream.partition("@")[0] for frame in market.frames)
    whole = counts["s0000usdt"]
    for number in range(SYMBOLS):
        share = min(number // 2 + 1, LEAST_SHARE)
        assert counts[f"s{number:04}usdt"] == pytest.approx(whole / share, abs=len(KINDS))


def test_it_is_the_minute_with_the_burst_in_the_order_of_time(market: Capture) -> None:
    times = [frame.received_us for frame in market.frames]
    assert times == sorted(times)
    assert times[-1] - times[0] <= MINUTE_US
    seconds = Counter(time // 1_000_000 for time in times)
    (busiest, count), (_, usual) = seconds.most_common(2)
    assert count > 2 * usual
    assert times[0] // 1_000_000 < busiest < times[-1] // 1_000_000
