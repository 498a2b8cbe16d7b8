"""`verify`: a report for people, a report for scripts, and an exit code."""

import json
import signal
from pathlib import Path

import pytest

from bridge.tools.embedded import free_port
from bridge.tools.verify import error_cases
from tests.cli.conftest import Run, ended, process

pytestmark = pytest.mark.timeout(60)

# There are 50 trades a second, and one ticker a second.
QUICK = ("--streams", "trade", "--seconds", "1.5")


@pytest.fixture
def _unprovoked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the error cases, which take some seconds."""
    monkeypatch.setattr(error_cases, "_CASES", {})


def test_a_market_that_behaves_is_verified(tickbridge: Run, simulator: Path) -> None:
    result = tickbridge(*("verify", "-c", str(simulator)), *QUICK)
    assert result.exit_code == 0
    assert "VERIFIED: all 11 checks" in result.stdout
    for words in ("1 of 1 heard", "100 % valid", "none missing of", "wrong symbol", "no pong"):
        assert words in result.stdout


@pytest.mark.usefixtures("_unprovoked")
def test_the_report_is_one_object(tickbridge: Run, simulator: Path) -> None:
    result = tickbridge(*("verify", "-c", str(simulator), "--json"), *QUICK)
    report = json.loads(result.stdout)
    assert (result.exit_code, report["verdict"]) == (0, "ok")
    assert len(report["checks"]) == 6
    assert report["observation"]["handshake"]["tls"] is None
    assert report["observation"]["moments"][0]["at_s"] == 0
    (stream,) = report["observation"]["streams"]
    assert float(stream["prices"]["least"]) <= float(stream["prices"]["greatest"])
    assert all(check["passed"] for check in report["checks"])
    assert report["observation"]["messages"]["invalid"] == {}


@pytest.mark.usefixtures("_unprovoked")
def test_a_symbol_that_is_not_listed_is_exit_1_and_named(tickbridge: Run, simulator: Path) -> None:
    result = tickbridge(
        *("verify", "-c", str(simulator)), *QUICK, *("--symbols", "BTCUSDT,NOSUCHCOIN")
    )
    assert result.exit_code == 1
    assert "NOT VERIFIED: symbols" in result.stdout
    assert "lists no symbol 'NOSUCHCOIN'" in result.stdout


@pytest.mark.usefixtures("_unprovoked")
def test_nobody_there_is_exit_1(tickbridge: Run) -> None:
    nobody = f"localhost:{free_port()}"
    result = tickbridge(
        *("verify", "--seconds", "0.5", "--symbols", "BTCUSDT"),
        TICKBRIDGE_BINANCE__WEBSOCKET_URL=f"ws://{nobody}",
        TICKBRIDGE_BINANCE__REST_URL=f"http://{nobody}",
    )
    assert result.exit_code == 1
    assert "NOT VERIFIED: handshake, connection, messages, streams, order" in result.stdout


@pytest.mark.usefixtures("_unprovoked")
def test_the_page_is_written_besides_the_report(tickbridge: Run, simulator: Path) -> None:
    result = tickbridge(
        *("verify", "-c", str(simulator), "--html", "report.html"), *QUICK[:-1], "3.5"
    )
    assert result.exit_code == 0
    page = Path("report.html").read_text()
    assert "VERIFIED: all 6 checks" in page
    assert "VERIFIED: all 6 checks" in result.stdout
    assert page.count("<polyline") == 3


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere/report.html", "the folder nowhere does not exist"), (".", "is a directory")],
)
def test_a_page_that_cannot_be_written_is_an_error_before_it_begins(
    tickbridge: Run, path: str, words: str
) -> None:
    result = tickbridge("verify", "--symbols", "BTCUSDT", "--html", path)
    assert result.exit_code == 2
    assert words in result.stderr


def test_without_a_symbol_it_says_how_to_name_one(tickbridge: Run) -> None:
    result = tickbridge("verify")
    assert result.exit_code == 2
    assert "set symbols, for example [BTCUSDT, ETHUSDT]" in result.stderr


def test_an_interruption_ends_it_with_the_report_of_what_was_seen(simulator: Path) -> None:
    command = ("verify", "-c", str(simulator), "--seconds", "600", "--json")
    with process(*command, TICKBRIDGE_LOG__FORMAT="json") as running:
        assert running.stdout
        assert running.stderr
        while b'"connection_open"' not in running.stderr.readline():
            pass
        assert ended(running, signal.SIGINT) in {0, 1}
        report = json.load(running.stdout)
    assert report["observation"]["seconds"] < 600
    assert report["observation"]["connection"]["open"] == 1
