"""`price`: a table for people, JSON for scripts, exit code 1 if a price is missing."""

import json
from uuid import uuid4

import pytest
from redis import Redis

from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import heartbeat_key, latest_key, prices_key
from bridge.tools.embedded import free_port
from tests.cli.conftest import Run
from tests.support.brokers import RedisAddress

EMPTY_DATABASE = "/15"


@pytest.fixture
def symbol(redis: RedisAddress) -> str:
    """Return a symbol of this test only, with a price."""
    name = f"{uuid4().hex[:10].upper()}USDT"
    fields = {
        "price": "61837.63000000",
        "price_time": "1723161254087000",
        "trade_id": "3735683259",
        "bid_price": "0.00000000",
        "change_percent": "-1.250",
    }
    with Redis.from_url(redis.url) as client:
        client.hset(latest_key(SPOT, name), mapping=dict(fields))
        client.hset(prices_key(SPOT), name, fields["price"])
        client.set(heartbeat_key(SPOT), "a bridge")
    return name


def test_the_table_has_the_price_its_age_and_the_quote(
    tickbridge: Run, redis: RedisAddress, symbol: str
) -> None:
    result = tickbridge("price", symbol.lower(), "--redis", redis.url)
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if symbol in line)
    assert "61837.63000000" in row
    assert " d ago" in row
    assert "0.00000000" in row
    assert "-1.250" in row


def test_a_narrow_output_cuts_nothing(tickbridge: Run, redis: RedisAddress, symbol: str) -> None:
    result = tickbridge("price", symbol, "--redis", redis.url, COLUMNS="40")
    row = next(line for line in result.stdout.splitlines() if symbol in line)
    assert "61837.63000000" in row
    assert "-1.250" in row


def test_json_has_the_exchanges_digits_and_all_fields(
    tickbridge: Run, redis: RedisAddress, symbol: str
) -> None:
    result = tickbridge("price", symbol, "--json", "--redis", redis.url)
    (row,) = json.loads(result.stdout)
    assert row["symbol"] == symbol
    assert row["price"] == "61837.63000000"
    assert row["bid_price"] == "0.00000000"
    assert row["price_time"] == 1723161254087000
    assert row["age_s"] > 0
    assert row["ask_price"] is None


def test_without_a_symbol_all_prices_come(
    tickbridge: Run, redis: RedisAddress, symbol: str
) -> None:
    result = tickbridge("price", "--json", TICKBRIDGE_REDIS__URL=redis.url)
    assert result.exit_code == 0
    assert symbol in [row["symbol"] for row in json.loads(result.stdout)]


def test_a_symbol_without_a_price_is_named_with_the_nearest_and_the_others_still_shown(
    tickbridge: Run, redis: RedisAddress, symbol: str
) -> None:
    wrong = symbol.removesuffix("T")
    result = tickbridge("price", symbol, wrong, "--json", "--redis", redis.url)
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)) == 1
    assert f"no price for {wrong}; did you mean {symbol}" in result.stderr


def test_a_symbol_whose_values_cannot_be_read_is_named_and_the_others_are_still_shown(
    tickbridge: Run, redis: RedisAddress, symbol: str
) -> None:
    broken = f"{uuid4().hex[:10].upper()}USDT"
    with Redis.from_url(redis.url) as client:
        client.set(latest_key(SPOT, broken), "1")
    result = tickbridge("price", broken, symbol, "--json", "--redis", redis.url)
    assert result.exit_code == 1
    assert [row["symbol"] for row in json.loads(result.stdout)] == [symbol]
    assert f"the latest values of {broken} are not in the format of a bridge" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_redis_without_any_price_says_so(tickbridge: Run, redis: RedisAddress) -> None:
    url = redis.url.removesuffix("/0") + EMPTY_DATABASE
    result = tickbridge("price", "--json", "--redis", url)
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])
    assert "check that a bridge publishes there" in result.stderr


def test_an_absent_redis_is_one_line_and_exit_1(tickbridge: Run) -> None:
    url = f"redis://localhost:{free_port()}/0"
    result = tickbridge("price", "BTCUSDT", "--redis", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert url in result.stderr


def test_a_wrong_redis_url_is_wrong_usage(tickbridge: Run) -> None:
    result = tickbridge("price", "--redis", "localhost")
    assert (result.exit_code, "redis.url" in result.stderr) == (2, True)
