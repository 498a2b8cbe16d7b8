"""The spread monitor: one alert for each time that a spread stays wide, and one for each feed."""

from decimal import Decimal

from bridge.client import Quote
from examples.spread_monitor import SpreadMonitor

BEGIN_US = 1_790_000_000_000_000
ONE = Decimal(1)


def quote(bid: str, ask: str, milliseconds: int) -> Quote:
    received = BEGIN_US + milliseconds * 1000
    head = ("binance.spot", "BTCUSDT", None, received, "websocket")
    return Quote(*head, milliseconds, Decimal(bid), ONE, Decimal(ask), ONE)


def monitor() -> SpreadMonitor:
    return SpreadMonitor(limit=Decimal(10), hold_us=500_000)


def test_a_spread_that_stays_wide_is_told_once_and_its_end_too() -> None:
    watching = monitor()
    quotes = [
        quote("999", "1001", 0),
        quote("999", "1001", 499),
        quote("998", "1002", 500),
        quote("998", "1002", 900),
        quote("1000", "1000.1", 1000),
        quote("1000", "1000.1", 1100),
    ]
    assert [line for each in quotes for line in watching.take(each)] == [
        "ALERT  BTCUSDT spread 40.00 bp: 998 to 1002",
        "OK     BTCUSDT spread 1.00 bp",
    ]


def test_a_spread_that_is_wide_for_a_moment_is_no_alert() -> None:
    watching = monitor()
    quotes = [quote("999", "1001", 0), quote("1000", "1000", 100), quote("999", "1001", 600)]
    assert [line for each in quotes for line in watching.take(each)] == []


def test_an_empty_side_of_the_book_is_no_spread() -> None:
    assert list(monitor().take(quote("0", "0", 0))) == []


def test_a_feed_that_stops_is_told_once() -> None:
    watching = monitor()
    states = ["live", "stale", "stale", "down", "live"]
    assert [line for each in states for line in watching.take_feeds({"BTCUSDT": each})] == [
        "ALERT  BTCUSDT feed is stale",
        "ALERT  BTCUSDT feed is down",
        "OK     BTCUSDT feed is live",
    ]
