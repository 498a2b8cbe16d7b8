"""`export`: what it prints, its exit codes, and what is wrong usage."""

import asyncio
import json
import sys
from pathlib import Path

import polars as pl
import pytest

from bridge import settings
from tests.cli.conftest import Run
from tests.support.brokers import Kafka
from tests.support.publishing import gap, kafka_options, publish, trade


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    """Return the options of topics with three trades and a gap event."""
    options = kafka_options(kafka, unique)
    trades = [trade(symbol, 7) for symbol in ("BTCUSDT", "ETHUSDT", "BNBUSDT")]
    asyncio.run(publish(options, [*trades, gap("BTCUSDT")], at_their_time=True))
    return options


@pytest.fixture
def export(tickbridge: Run, options: settings.Kafka) -> Run:
    """Return a function that exports from the topics of the test to the folder `out`."""

    def run(*arguments: str) -> object:
        common = ("--kafka", options.bootstrap_servers[0], "--out", "out")
        return tickbridge("export", *arguments, *common, TICKBRIDGE_KAFKA__TOPIC=options.topic)

    return run  # type: ignore[return-value]


def test_it_says_what_the_folder_has(export: Run, elsewhere: Path) -> None:
    result = export("trade,gap", "--from", "earliest")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["trade: rows 3, symbols 3, files 1", "gap: rows 1, symbols 1, files 1"]
    assert lines[2].startswith("out is complete from the earliest record to 20")
    assert pl.read_parquet(elsewhere / "out/trade/*.parquet").height == 3


def test_the_same_command_says_that_it_is_complete(export: Run) -> None:
    first, second = (export("trade", "--from", "earliest") for _ in range(2))
    assert second.exit_code == 0
    assert second.stdout == first.stdout
    assert "complete before: nothing was written" in second.stderr


def test_other_options_are_wrong_usage(export: Run) -> None:
    export("trade", "--from", "earliest")
    result = export("trade", "--from", "earliest", "--format", "csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "format is parquet, not csv; repeat that command, or use another" in result.stderr


def test_the_manifest_is_printed_as_json(export: Run, elsewhere: Path) -> None:
    result = export("trade", "--from", "earliest", "--symbols", "ethusdt", "--json")
    manifest = json.loads(result.stdout)
    assert manifest == json.loads((elsewhere / "out/manifest.json").read_bytes())
    assert list(manifest["topics"][0]["parts"][0]["symbols"]) == ["ETHUSDT"]


def test_a_symbol_without_events_is_named(export: Run) -> None:
    result = export("trade,gap", "--from", "earliest", "--symbols", "BTCUSDT,NOSUCHUSDT")
    assert result.exit_code == 1
    assert "no trade or gap event of NOSUCHUSDT is in this time range; check how" in result.stderr
    assert "trade: rows 1," in result.stdout


def test_a_symbol_with_events_of_one_type_only_is_no_error(export: Run) -> None:
    assert export("trade,gap", "--from", "earliest", "--symbols", "ETHUSDT").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trad", "--from", "1h"], "did you mean 'trade'"),
        (["trade", "--from", "soon"], "is no time"),
        (["trade", "--from", "latest"], "'latest' has no events yet"),
        (["trade", "--from", "1h", "--to", "2h"], "1h is not before the end"),
        (["trade", "--from", "1h", "--to", "earliest"], "'earliest' is no end"),
        (["trade", "--from", "1h", "--to", "2999-01-01"], "has not come yet; leave --to out"),
        (["trade", "--from", "1h", "--symbols", "BTC/USDT"], "'BTC/USDT' cannot be a symbol"),
        (["trade", "--from", "1h", "--format", "xlsx"], "'xlsx' is not one of"),
    ],
)
def test_wrong_usage_is_named(tickbridge: Run, arguments: list[str], named: str) -> None:
    result = tickbridge("export", *arguments, "--out", "out", COLUMNS="200")
    assert result.exit_code == 2
    assert named in result.stderr


def test_without_polars_it_names_the_extra(
    tickbridge: Run, monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    result = tickbridge("export", "trade", "--from", "1h", "--out", "out")
    assert (result.exit_code, ".[export]" in result.stderr) == (2, True)
    assert not (elsewhere / "out").exists()
