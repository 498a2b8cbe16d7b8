from pathlib import Path

import pytest

from bridge.simulator import (
    CaptureError,
    CaptureWriter,
    Market,
    Replay,
    SimulatorSettings,
    simulated_exchange,
)


def test_without_captures_a_market_is_invented() -> None:
    exchange = simulated_exchange(SimulatorSettings(symbols=("牛来USDT",)))
    assert isinstance(exchange.source, Market)
    assert exchange.source.symbols == ("牛来USDT",)


def test_captures_are_looped_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "one.gz"
    with CaptureWriter(path) as writer:
        writer.write(10**18, '{"stream":"btcusdt@trade","data":{"t":1}}')
    for loop in (True, False):
        exchange = simulated_exchange(SimulatorSettings(captures=(path,), loop=loop))
        assert isinstance(exchange.source, Replay)
        exchange.source.take(None, 10)
        assert (exchange.source.due_us() is not None) == loop


def test_a_capture_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="absent"):
        simulated_exchange(SimulatorSettings(captures=(tmp_path / "absent",)))
