"""The message types and symbols that a reader may request."""

import pytest

from bridge.client import KafkaFeed
from bridge.client.message_types import check_message_types, check_symbols, upper_symbols


def test_kinds_are_taken_once_and_in_order() -> None:
    assert check_message_types(["trade", "gap", "trade"]) == ("trade", "gap")
    assert check_message_types("agg_trade") == ("agg_trade",)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("trad", "did you mean 'trade'"),
        ("bookTicker", "the events of that stream are 'quote'"),
        ("aggTrade", "the events of that stream are 'agg_trade'"),
        ("xyz", "known: trade, agg_trade"),
    ],
)
def test_an_unknown_kind_is_answered_with_the_likely_one(kind: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        check_message_types([kind])


def test_no_kind_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no message type is given"):
        check_message_types([])


def test_symbols_may_have_any_case() -> None:
    assert upper_symbols(["btcusdt", "BTCUSDT", "币安人生usdt"]) == ("BTCUSDT", "币安人生USDT")
    assert upper_symbols("btcusdt") == ("BTCUSDT",)


@pytest.mark.parametrize("name", ["BTC*", "BTC/USDT", "", "BTC USDT"])
def test_a_symbol_that_nothing_can_have_is_refused_and_not_waited_for(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a symbol"):
        KafkaFeed("localhost:9092", "trade", symbols=["ETHUSDT", name])
    assert check_symbols(["btcusdt", "1000satsusdt"]) == ("BTCUSDT", "1000SATSUSDT")
