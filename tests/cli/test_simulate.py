"""`simulate`: it prints a settings file, and stops on a signal."""

import json
import signal
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from websockets.sync.client import connect

from bridge.tools.simulator.market import present_ms
from tests.cli.conftest import Run, ended, process

CAPTURE = (
    '1723161254087896568 {"stream":"ethbtc@trade","data":{"e":"trade","E":1723161254087,'
    '"s":"ETHBTC","t":1,"p":"0.04","q":"1.0","T":1723161254087,"m":true,"M":true}}\n'
)


@pytest.fixture
def capture(tmp_path: Path) -> str:
    (path := tmp_path / "capture").write_text(CAPTURE)
    return str(path)


def test_the_settings_it_prints_are_good(tickbridge: Run, simulator: Path) -> None:
    assert "binance:" in simulator.read_text()
    result = tickbridge("config", "check", "-c", str(simulator))
    assert result.exit_code == 0
    assert "1 symbol x 3 streams from ws://127.0.0.1:" in result.stdout


def test_an_invented_market_begins_at_the_first_subscription_and_goes_on_without_one(
    simulator: Path,
) -> None:
    binance = yaml.safe_load(simulator.read_text())["binance"]
    url = f"{binance['rest_url']}/api/v3/historicalTrades?symbol=BTCUSDT"

    def rows() -> list[dict[str, int]]:
        with urlopen(url) as answer:  # noqa: S310
            found: list[dict[str, int]] = json.load(answer)
        return found

    assert rows() == []
    began_ms = present_ms()
    with connect(f"{binance['websocket_url']}/ws/btcusdt@trade") as client:
        first = json.loads(client.recv())
    assert first["T"] >= began_ms
    assert rows()[0]["id"] == first["t"]
    last = rows()[-1]["id"]
    while rows()[-1]["id"] == last:
        pass


def test_a_recording_gives_its_own_symbols_and_streams(capture: str) -> None:
    with process("simulate", "--port", "0", "--capture", capture, "--no-loop") as running:
        assert running.stdout
        text = b"".join(running.stdout.readline() for _ in range(6))
        assert ended(running, signal.SIGINT) == 0
    printed = yaml.safe_load(text)["binance"]
    assert (printed["symbols"], printed["streams"]) == (["ETHBTC"], ["trade"])


def test_a_port_that_is_taken_is_wrong_usage(tickbridge: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = tickbridge("simulate", "--port", str(port))
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "fast"])
def test_a_speed_that_is_none_is_wrong_usage(tickbridge: Run, speed: str) -> None:
    result = tickbridge("simulate", f"--speed={speed}")
    assert (result.exit_code, "flat-out" in result.stderr) == (2, True)


def test_a_file_that_is_no_recording_is_wrong_usage(tickbridge: Run, tmp_path: Path) -> None:
    (path := tmp_path / "notes").write_text("hello\n")
    result = tickbridge("simulate", "--capture", str(path))
    assert (result.exit_code, "notes, line 1" in result.stderr) == (2, True)
