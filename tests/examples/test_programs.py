"""Each example as a user starts it, on a bridge with embedded brokers and a simulated market."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.market import market

EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEMAS = EXAMPLES.parent / "schemas"

pytestmark = pytest.mark.timeout(180)


async def output(*command: str | Path, events: bytes | None = None) -> str:
    """Run a program in the folder of the examples; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=EXAMPLES,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        printed, errors = await process.communicate(events)
    assert process.returncode == 0, errors.decode()
    return printed.decode()


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


async def test_the_paper_trader_turns_events_into_orders_and_profit(tmp_path: Path) -> None:
    async with market(tmp_path) as at:
        words = ("--redis", at.redis, "--seconds", "5")
        printed = await output(sys.executable, "paper_trader.py", *words)
    figures = {line[:28].strip(): line[28:].split() for line in printed.splitlines()}
    assert int(figures["orders"][0].replace(",", "")) > 5
    assert figures["event to order, median"][1] == "µs"
    assert "BTCUSDT" in printed


async def test_the_paper_trader_needs_no_bridge_for_an_invented_market() -> None:
    printed = await output(sys.executable, "paper_trader.py", "--invented", "20000")
    assert printed.splitlines()[0].split() == ["events", "20,000"]
    assert "event to order, median" in printed


async def test_the_candle_builder_prints_complete_candles_in_order(tmp_path: Path) -> None:
    async with market(tmp_path) as at:
        words = ("--kafka", at.kafka, "--seconds", "1", "--candles", "3")
        printed = await output(sys.executable, "candle_builder.py", *words)
    header, *candles = printed.splitlines()
    assert header.startswith("begin symbol open high low close volume trades")
    begins = [candle.split()[0] for candle in candles]
    assert begins == sorted(set(begins))
    for candle in candles:
        opened, high, low, closed = map(float, candle.split()[2:6])
        assert low <= min(opened, closed) <= max(opened, closed) <= high


async def test_the_spread_monitor_alerts(tmp_path: Path) -> None:
    async with market(tmp_path) as at:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "spread_monitor.py", "--redis", at.redis),
            *("--basis-points", "0", "--hold-ms", "100"),
            cwd=EXAMPLES,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"watching *: above 0 basis points\n"
            while " bp: " not in (line := (await process.stdout.readline()).decode()):
                assert line.startswith(("ALERT  ", "OK     "))
        process.kill()
        await process.wait()
    assert line.startswith("ALERT  ")


async def test_a_consumer_in_javascript_needs_nothing_except_the_schemas(tmp_path: Path) -> None:
    node = program("node")
    async with market(tmp_path) as at:
        address = at.redis.removesuffix("/0")
        printed = await output(node, "javascript/consumer.mjs", address, "trade", "BTCUSDT", "40")
    seen = json.loads(printed)
    assert (seen["events"], seen["invalid"], seen["missing"]) == (40, 0, 0)
    assert float(seen["volume"]) > 0


async def test_a_consumer_in_go_needs_nothing_except_the_schemas(tmp_path: Path) -> None:
    go = program("go")
    async with market(tmp_path) as at:
        tail = ("-m", "bridge", "tail", "trade,quote", "--kafka", at.kafka, "--count", "200")
        events = await output(sys.executable, *tail)
    printed = await output(go, "run", "go/consumer.go", SCHEMAS, events=events.encode())
    seen = json.loads(printed)
    assert (seen["events"], seen["invalid"]) == (200, 0)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"price": 1.5}, "/price is"),
        ({"price": "1e5"}, "/price does not match"),
        ({"side": "both"}, "/side is none of"),
        ({"trade_id": "7"}, "/trade_id is string"),
        ({"volume": None}, "/volume is null"),
    ],
)
async def test_the_consumer_in_go_names_what_a_schema_forbids(
    change: dict[str, object], wrong: str
) -> None:
    go = program("go")
    trade = {
        "message_type": "trade",
        "venue": "binance.spot",
        "symbol": "BTCUSDT",
        "timestamp": 1,
        "received": 2,
        "source": "rest",
        "trade_id": 5,
        "price": "1.5",
        "volume": "0.1",
        "side": "buy",
    }
    with pytest.raises(AssertionError, match=wrong):
        await output(
            *(go, "run", "go/consumer.go", SCHEMAS), events=json.dumps(trade | change).encode()
        )
