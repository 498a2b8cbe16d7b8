from itertools import chain, combinations

import pytest

from bridge.core.model.events import AggTrade, Event, MiniTicker, Quote, Ticker, Trade, WindowTicker
from bridge.core.records.latest_values import LatestValue, latest_key, latest_values, prices_key
from tests.support.events import (
    FRAMES,
    VENUE,
    changed,
    decode_event,
    guard,
    is_price,
    latest_fields,
)

PAYLOAD_OF: dict[str, type[Event]] = {
    "trade": Trade,
    "aggTrade": AggTrade,
    "ticker": Ticker,
    "miniTicker": MiniTicker,
    "bookTicker": Quote,
}
COMBINATIONS = list(
    chain.from_iterable(combinations(PAYLOAD_OF, count) for count in range(len(PAYLOAD_OF) + 1))
)
TRADE_ID = {"trade_id"}
DAY = {"open", "high", "low", "volume", "quote_volume", "day_time"}
REST_OF_DAY = {"change", "change_percent", "weighted_average_price", "trade_count"}
QUOTE = {"bid_price", "bid_volume", "ask_price", "ask_volume", "quote_time"}


def first(payloads: tuple[str, ...], *order: str) -> str | None:
    return next((payload for payload in order if payload in payloads), None)


def setters(payloads: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the payloads that set each group, by the name of the group's guard."""
    found: dict[str, list[str]] = {"price": [], "quote": [], "day": []}
    for payload, event_type in PAYLOAD_OF.items():
        if payload in payloads:
            for value in latest_values(VENUE, "BTCUSDT", event_type, set(payloads)):
                group = "price" if is_price(value) else guard(value).partition("_")[0]
                found[group].append(payload)
    return found


def values(kind: str, *payloads: str) -> tuple[LatestValue, ...]:
    event = decode_event(FRAMES[kind])
    return latest_values(VENUE, event.symbol, type(event), {kind, *payloads})


@pytest.mark.parametrize("payloads", COMBINATIONS, ids=lambda payloads: "+".join(payloads) or "-")
def test_each_group_is_set_by_the_most_exact_stream_and_no_other(
    payloads: tuple[str, ...],
) -> None:
    winners = {
        "price": first(payloads, "trade", "aggTrade", "ticker", "miniTicker"),
        "quote": first(payloads, "bookTicker", "ticker"),
        "day": first(payloads, "ticker", "miniTicker"),
    }
    expected = {group: [winner] if winner else [] for group, winner in winners.items()}
    assert setters(payloads) == expected


@pytest.mark.parametrize(
    ("kind", "guards", "fields"),
    [
        ("trade", ["trade_id"], {"price", "price_time", "trade_id"}),
        ("aggTrade", ["trade_id"], {"price", "price_time", "trade_id"}),
        ("bookTicker", ["quote_id"], QUOTE | {"quote_id"}),
        (
            "ticker",
            ["price_time", "quote_time", "day_time"],
            {"price", "price_time"} | QUOTE | DAY | REST_OF_DAY,
        ),
        ("miniTicker", ["price_time", "day_time"], {"price", "price_time"} | DAY),
    ],
)
def test_an_event_sets_the_fields_of_the_contract(
    kind: str, guards: list[str], fields: set[str]
) -> None:
    event = decode_event(FRAMES[kind])
    groups = values(kind)
    assert [guard(value) for value in groups] == guards
    assert {name for value in groups for name in latest_fields(value, event)} == fields


@pytest.mark.parametrize(
    ("kind", "later"),
    [
        ("trade", {"t": 6732650449}),
        ("aggTrade", {"a": 4080045246, "f": 6733597949, "l": 6733597949}),
        ("bookTicker", {"u": 100530416205}),
        ("ticker", {"E": 1569805260092}),
        ("miniTicker", {"E": 1791296829016}),
    ],
)
def test_the_guard_of_a_later_event_is_greater(kind: str, later: dict[str, int]) -> None:
    before, after = decode_event(FRAMES[kind]), decode_event(changed(kind, **later))
    for value in values(kind):
        guards = [int(latest_fields(value, event)[guard(value)]) for event in (before, after)]
        assert guards[0] < guards[1]


@pytest.mark.parametrize("window", ["1h", "4h", "1d"])
def test_a_short_windows_ticker_is_never_the_latest_value(window: str) -> None:
    event = decode_event(FRAMES[f"ticker_{window}"])
    assert type(event) is WindowTicker
    for payloads in ({f"ticker_{window}"}, {f"ticker_{window}", "ticker", "trade"}):
        assert latest_values(VENUE, event.symbol, type(event), payloads) == ()


@pytest.mark.parametrize(
    "kind", sorted(FRAMES.keys() - PAYLOAD_OF.keys() - {"ticker_1h", "ticker_4h", "ticker_1d"})
)
def test_other_events_set_nothing(kind: str) -> None:
    assert values(kind, *PAYLOAD_OF) == ()


def test_a_trade_says_when_its_price_was_true() -> None:
    (value,) = values("trade")
    assert latest_fields(value, decode_event(FRAMES["trade"])) == {
        "price": "84922.04000000",
        "price_time": "1790960630913000",
        "trade_id": "6732650448",
    }


def test_an_aggregate_is_as_new_as_its_last_trade() -> None:
    (value,) = values("aggTrade")
    assert latest_fields(value, decode_event(FRAMES["aggTrade"]))["trade_id"] == "6733597948"


def test_of_two_trades_the_greater_id_is_the_newer() -> None:
    (value,) = values("trade")
    older, newer = (decode_event(changed("trade", t=number)) for number in (5, 6))
    assert value.newest(older, newer) is newer
    assert value.newest(newer, older) is newer


def test_a_quote_without_a_time_was_true_when_it_arrived() -> None:
    event = decode_event(FRAMES["bookTicker"])
    (value,) = values("bookTicker")
    assert latest_fields(value, event)["quote_time"] == str(event.received)


def test_only_the_price_goes_into_the_hash_of_all_prices() -> None:
    assert [is_price(value) for value in values("ticker")] == [True, False, False]


def test_keys_are_those_of_the_contract() -> None:
    assert latest_key("binance.spot", "BTCUSDT") == "binance.spot.latest:BTCUSDT"
    assert prices_key("binance.spot") == "binance.spot.prices"
    assert {value.key for value in values("ticker")} == {"binance.spot.latest:DOGEBNB"}
