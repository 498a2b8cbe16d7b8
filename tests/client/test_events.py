"""Decoding: every event that the bridge writes is accepted, and nothing else is."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.client import Trade, UnknownMessageType, UnreadableEvent, decode_event
from bridge.client.events import EVENT_TYPES, datetime_of
from bridge.core.model import events as core
from tests.support.strategies import DECIMALS, events_of

TRADE = core.Trade(
    *("binance.spot", "BTCUSDT", 1723161254087000, 1723161254088000, "websocket"),
    *(3735683259, "61837.63000000", "0.00000000", "buy"),
)
PLAIN: dict[str, Any] = msgspec.to_builtins(TRADE)


def written(**changes: Any) -> bytes:
    return msgspec.json.encode(PLAIN | changes)


def as_written(value: Any) -> Any:
    """Return a value of the client with its decimals as text."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list | tuple):
        return type(value)(map(as_written, value))
    return value


def test_the_client_knows_every_event_of_the_bridge_by_the_same_fields() -> None:
    fields = {name: cls.__struct_fields__ for name, cls in EVENT_TYPES.items()}
    assert fields == {name: cls.__struct_fields__ for name, cls in core.EVENT_TYPES.items()}


@pytest.mark.parametrize("message_type", core.EVENT_TYPES)
@given(data=st.data())
def test_every_event_is_read_back_field_by_field(message_type: str, data: st.DataObject) -> None:
    event = data.draw(events_of(core.EVENT_TYPES[message_type]))
    read = decode_event(msgspec.json.encode(event))
    assert type(read) is EVENT_TYPES[message_type]
    values = {name: as_written(getattr(read, name)) for name in read.__struct_fields__}
    assert values == {name: getattr(event, name) for name in event.__struct_fields__}


@given(DECIMALS)
def test_a_price_keeps_every_digit(price: str) -> None:
    trade = decode_event(written(price=price))
    assert isinstance(trade, Trade)
    assert trade.price == Decimal(price)
    assert format(trade.price, "f") == price


def test_unknown_fields_are_passed_over() -> None:
    assert decode_event(written(fee="0.1", parts=[1, 2])) == decode_event(written())


def test_a_source_of_a_newer_bridge_is_read() -> None:
    assert decode_event(written(source="snapshot")).source == "snapshot"


def test_a_message_type_of_a_newer_bridge_is_named() -> None:
    with pytest.raises(UnknownMessageType, match="'funding_rate' is unknown") as caught:
        decode_event(written(message_type="funding_rate"))
    assert caught.value.message_type == "funding_rate"


def test_an_event_without_a_field_of_its_type_is_refused() -> None:
    del (lacking := dict(PLAIN))["price"]
    with pytest.raises(UnreadableEvent, match=r"not a valid trade event .* `price`"):
        decode_event(msgspec.json.encode(lacking))


@given(st.binary() | st.from_regex(r'\{"message_type":.*\}', fullmatch=True).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_unreadable_event(value: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decode_event(value)


def test_a_value_nested_past_every_limit_is_refused() -> None:
    with pytest.raises(UnreadableEvent):
        decode_event(b"[" * 100_000)


def test_times_are_datetimes_in_utc_on_demand() -> None:
    trade = decode_event(written())
    assert trade.time == datetime(2024, 8, 8, 23, 54, 14, 87000, tzinfo=UTC)
    assert trade.received_time == datetime(2024, 8, 8, 23, 54, 14, 88000, tzinfo=UTC)
    assert decode_event(written(timestamp=None)).time is None


@given(st.integers(0, 253_402_300_799_999_999))
def test_a_datetime_is_exact_to_the_microsecond(microseconds: int) -> None:
    time = datetime_of(microseconds)
    assert (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == microseconds
