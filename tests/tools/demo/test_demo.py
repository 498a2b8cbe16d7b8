import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from bridge.tools.demo.options import HTTP_PORT
from bridge.tools.embedded import LOOPBACK
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.demo import demo_in_terminal, exchange_file, run_demo, server, unreachable

ESCAPE = "\x1b"
CTRL_C = b"\x03"
PRICES = r"\d\d:\d\d:\d\d  BTCUSDT [\d.,]+  ETHUSDT [\d.,]+  BNBUSDT [\d.,]+  \d+ msg/s"


@pytest.fixture(autouse=True)
def usual_port_in_use() -> Iterator[None]:
    """Let each demo take a port of its own: two that start at once might want the same one."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(socket.create_server((LOOPBACK, HTTP_PORT)))
        yield


def accounts(output: str) -> dict[str, tuple[int, int, int, int]]:
    """Return received, published, dropped and pending of the summary, by sink."""
    found = re.findall(r"(Kafka|Redis) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) ", output)
    return {
        name: (numbers[0], numbers[1], numbers[2], numbers[3])
        for name, *texts in found
        for numbers in [[int(text.replace(",", "")) for text in texts]]
    }


async def test_without_a_terminal_it_prints_prices_each_second_and_a_summary_that_adds_up(
    tmp_path: Path,
) -> None:
    ended = await run_demo("--seconds", "3", "--config", unreachable(tmp_path))
    assert (ended.exit_code, ended.errors) == (0, "")
    assert ESCAPE not in ended.output
    assert "the simulator, because Binance cannot be reached" in ended.output
    assert re.search(r"Kafka +127\.0\.0\.1:\d+ ", ended.output)
    assert re.search(r"price BTCUSDT --redis redis://127\.0\.0\.1:\d+/0\n", ended.output)
    assert re.search(r"tail trade --kafka 127\.0\.0\.1:\d+ --count 5\n", ended.output)
    assert re.search(r"status --url http://127\.0\.0\.1:\d+\n", ended.output)
    assert re.search(r"audit --kafka 127\.0\.0\.1:\d+\n", ended.output)
    assert re.search(r"curl http://127\.0\.0\.1:\d+/metrics\n", ended.output)
    assert len(re.findall(PRICES, ended.output)) >= 2
    books = accounts(ended.output)
    assert books.keys() == {"Kafka", "Redis"}
    for received, published, dropped, pending in books.values():
        assert received > 100
        assert received == published + dropped + pending
        assert dropped == pending == 0


async def test_the_summary_counts_in_each_topic_what_was_published_to_it(tmp_path: Path) -> None:
    ended = await run_demo("--seconds", "2", "--config", unreachable(tmp_path))
    topics = re.findall(r"topic binance\.spot\.(\w+) +([\d,]+) +([\d,]+)\n", ended.output)
    assert {kind for kind, _, _ in topics} == {"trade", "quote", "ticker"}
    assert all(published == found for _, published, found in topics)
    assert "All delivered." in ended.output


async def test_live_binance_is_used_where_it_answers(tmp_path: Path) -> None:
    market = Market(["BTCUSDT", "ETHUSDT", "BNBUSDT"], begin_ms=0, trades_per_second=50)
    async with SimulatedExchange(market) as live:
        file = exchange_file(tmp_path, live.websocket_url, live.rest_url)
        ended = await run_demo("--seconds", "2.5", "--config", file)
    assert (ended.exit_code, ended.errors) == (0, "")
    assert f"Source  live from 127.0.0.1:{live.port}\n" in ended.output
    assert "simulator" not in ended.output
    assert re.search(PRICES, ended.output)


async def test_captures_are_played_with_their_own_symbols_and_streams(captures: Path) -> None:
    file = captures / "spot" / "altcoins_20210417.gz"
    ended = await run_demo("--seconds", "2", "--capture", file)
    assert (ended.exit_code, ended.errors) == (0, "")
    assert "recorded Binance: altcoins_20210417.gz, at real speed, in a loop" in ended.output
    assert "Looking for live Binance" not in ended.output
    assert "BUSDTRY" in ended.output
    assert "topic binance.spot.book_delta" in ended.output


async def test_it_stops_its_brokers_when_its_terminal_is_closed(tmp_path: Path) -> None:
    async with demo_in_terminal("--config", unreachable(tmp_path)) as terminal:
        await terminal.wait_for(r"[1-9]\d* messages/s")
        address = re.search(r"redis://127\.0\.0\.1:(\d+)/0", terminal.text)
        assert address
    async with asyncio.timeout(30):
        with suppress(ConnectionRefusedError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", int(address[1]))
                writer.close()
                await asyncio.sleep(0.05)


async def test_in_a_terminal_it_shows_a_table_in_place_and_ends_with_the_summary(
    tmp_path: Path,
) -> None:
    async with demo_in_terminal("--seconds", "2.5", "--config", unreachable(tmp_path)) as terminal:
        exit_code = await terminal.end()
    assert exit_code == 0
    assert ESCAPE in terminal.output
    assert "Tickbridge demo" in terminal.text
    assert re.search(r"Redis +redis://127\.0\.0\.1:\d+/0", terminal.text)
    assert re.search(r"HTTP +http://127\.0\.0\.1:\d+/readyz", terminal.text)
    assert re.search(r"Symbol +Price +24 h +Bid +Ask +Messages/s", terminal.text)
    for symbol in ("BTCUSDT", "ETHUSDT", "BNBUSDT"):
        assert re.search(rf"{symbol} +[▲▼ ]? *[\d,]+\.\d\d+ +[+-]\d+\.\d\d %", terminal.text)
    assert "Traceback" not in terminal.text
    assert "All delivered." in terminal.text


async def test_ctrl_c_ends_it_with_the_summary(tmp_path: Path) -> None:
    async with demo_in_terminal("--config", unreachable(tmp_path)) as terminal:
        await terminal.wait_for(r"[1-9]\d* messages/s")
        terminal.type(CTRL_C)
        assert await terminal.end() == 0
    assert "All delivered." in terminal.text
    assert "Traceback" not in terminal.text


async def test_ctrl_c_ends_the_search_for_binance_too(tmp_path: Path) -> None:
    async with server(None) as port:
        file = exchange_file(tmp_path, f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
        async with demo_in_terminal("--config", file) as terminal:
            await terminal.wait_for("Looking for live Binance")
            terminal.type(CTRL_C)
            assert await terminal.end() == 130
    assert "Traceback" not in terminal.text


async def test_plain_wants_no_table_in_a_terminal_either(tmp_path: Path) -> None:
    async with demo_in_terminal(
        "--plain", "--seconds", "2", "--config", unreachable(tmp_path)
    ) as terminal:
        assert await terminal.end() == 0
    assert ESCAPE not in terminal.output
    assert re.search(PRICES, terminal.output)


async def test_warnings_of_the_bridge_stand_above_the_table(tmp_path: Path) -> None:
    file = unreachable(tmp_path)
    quiet = "  extra_streams: [btcusdt@referencePrice, zzzusdt@blockTrade]\n"
    file.write_text(file.read_text() + quiet + "  first_message_timeout_s: 0.3\n")
    async with demo_in_terminal("--config", file) as terminal:
        await terminal.wait_for("streams_without_data")
        await terminal.wait_for(r"[1-9]\d* messages/s")
        terminal.type(CTRL_C)
        assert await terminal.end() == 0
    assert "zzzusdt@blockTrade" in terminal.text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--symbols", "BTC-USDT"), "binance.symbols = BTC-USDT: is not a symbol"),
        (("--capture", __file__), "expected `<receive ns> <json>`"),
    ],
)
async def test_what_cannot_be_shown_is_said_in_a_line(
    options: tuple[str, ...], complaint: str
) -> None:
    ended = await run_demo(*options)
    assert ended.exit_code == 2
    assert complaint in ended.errors
    assert "Traceback" not in ended.errors
