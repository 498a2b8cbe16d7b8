"""`config`: it shows every problem at once, and no secret."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.cli.conftest import Run

SETTINGS = """\
binance:
  symbols: [BTCUSDT, "*BTC"]
  streams: [trade, bookTicker]
  extra_streams: ["!miniTicker@arr"]
kafka: {bootstrap_servers: "localhost:9092"}
redis: {url: "redis://someone:hunter2@localhost:6379/0"}
"""


@pytest.fixture
def settings(tmp_path: Path) -> str:
    (path := tmp_path / "settings.yaml").write_text(SETTINGS)
    return str(path)


def test_check_says_what_would_run(tickbridge: Run, settings: str) -> None:
    result = tickbridge("config", "check", "--config", settings)
    assert result.exit_code == 0
    assert "ok: 1 symbol and 1 pattern x 2 streams and 1 extra stream" in result.stdout
    assert "Kafka at localhost:9092, topics binance.spot.*" in result.stdout
    assert "hunter2" not in result.output


def test_check_names_every_problem_and_exits_with_2(tickbridge: Run) -> None:
    result = tickbridge(
        *("config", "check"),
        TICKBRIDGE_BINANCE__SYMBOLS="BTC/USDT",
        TICKBRIDGE_KAFKA__PARTITIONS="many",
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "binance.symbols" in result.stderr
    assert "kafka.partitions" in result.stderr


def test_a_file_that_is_not_there_is_named(tickbridge: Run) -> None:
    result = tickbridge("config", "check", "-c", "nowhere.yaml")
    assert (result.exit_code, "nowhere.yaml" in result.stderr) == (2, True)


def test_connect_only_warns_of_a_server_that_cannot_be_reached(tickbridge: Run) -> None:
    result = tickbridge(
        *("config", "check", "--connect"),
        TICKBRIDGE_BINANCE__SYMBOLS="BTCUSDT",
        TICKBRIDGE_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1",
        TICKBRIDGE_REDIS__URL="redis://127.0.0.1:1",
    )
    assert result.exit_code == 0
    assert "accepts the bridge" not in result.stdout
    kafka, redis = result.stderr.splitlines()
    assert kafka.startswith("tickbridge: warning: Kafka at 127.0.0.1:1: ")
    assert redis.startswith("tickbridge: warning: Redis: ")


def test_show_prints_settings_that_can_be_read_again_without_secrets(
    tickbridge: Run, settings: str
) -> None:
    result = tickbridge("config", "show", "-c", settings)
    assert result.exit_code == 0
    shown = yaml.safe_load(result.stdout)
    assert shown["binance"]["symbols"] == ["BTCUSDT", "*BTC"]
    assert shown["redis"]["url"] == "redis://***@localhost:6379/0"


def test_schema_prints_a_json_schema_that_takes_the_settings(tickbridge: Run) -> None:
    result = tickbridge("config", "schema")
    assert result.exit_code == 0
    jsonschema.validate(yaml.safe_load(SETTINGS), json.loads(result.stdout))
