"""Columns: every field of every event, with all of its digits."""

import sys
from decimal import Decimal
from io import BytesIO
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.client.columns import Columns
from bridge.client.events import decode_event
from bridge.core.model.events import EVENT_TYPES, Event
from bridge.errors import MissingExtra
from tests.support.exporting import as_row, as_texts
from tests.support.publishing import trade
from tests.support.strategies import events_of

# Of each message type.
EXAMPLES = 25

BOOK: dict[str, Any] = {
    "message_type": "book",
    "venue": "binance.spot",
    "symbol": "BTCUSDT",
    "timestamp": None,
    "received": 1723161254088000,
    "source": "websocket",
    "last_update_id": 7,
    "bids": [["1.10", "2"]],
    "asks": [],
}


def texts_of(kind: str, *values: bytes) -> pl.DataFrame:
    columns = Columns(kind)
    return columns.texts([columns.decode(value) for value in values])


def lists_of_events(kind: str) -> st.SearchStrategy[list[Event]]:
    return st.lists(events_of(EVENT_TYPES[kind]), max_size=4)


@pytest.mark.parametrize("kind", EVENT_TYPES)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_frame_has_what_the_client_reads(kind: str, data: st.DataObject) -> None:
    values = [msgspec.json.encode(event) for event in data.draw(lists_of_events(kind))]
    frame = Columns(kind).typed(texts_of(kind, *values))
    assert frame.columns == list(EVENT_TYPES[kind].__struct_fields__)
    events = [as_row(decode_event(value)) for value in values]
    # As integers, because Python's datetimes end in the year 9999.
    times = [name for name, of in frame.schema.items() if isinstance(of, pl.Datetime)]
    assert frame.with_columns(pl.col(times).cast(pl.Int64)).rows() == events


@pytest.mark.parametrize("kind", EVENT_TYPES)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_csv_has_the_texts_of_the_records(kind: str, data: st.DataObject) -> None:
    values = [msgspec.json.encode(event) for event in data.draw(lists_of_events(kind))]
    content = BytesIO()
    texts_of(kind, *values).write_csv(content)
    read = pl.read_csv(content.getvalue(), infer_schema=False)
    assert read.rows() == [as_texts(kind, value) for value in values]


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_a_frame_without_rows_has_the_same_types(kind: str) -> None:
    frame = Columns(kind).typed(Columns(kind).texts())
    assert frame.columns == list(EVENT_TYPES[kind].__struct_fields__)
    assert frame.schema["received"] == pl.Datetime("us", "UTC")
    level = pl.Struct({"price": pl.Decimal(38, 18), "volume": pl.Decimal(38, 18)})
    expected = {"price": pl.Decimal(38, 18), "trade_id": pl.Int64, "bids": pl.List(level)}
    for name, of in expected.items():
        assert frame.schema.get(name, of) == of


@pytest.mark.parametrize(
    ("price", "is_decimal"),
    [
        ("99999999999999999999.999999999999999999", True),
        ("100000000000000000000", False),
        ("0.0000000000000000001", False),
        ("much", False),
    ],
)
def test_a_column_that_a_decimal_cannot_hold_stays_text(price: str, *, is_decimal: bool) -> None:
    values = [msgspec.json.encode(trade("BTCUSDT", 1, each)) for each in ("1.5", price)]
    frame = Columns("trade").typed(texts_of("trade", *values))
    expected = [Decimal("1.5"), Decimal(price)] if is_decimal else ["1.5", price]
    assert frame["price"].to_list() == expected


@pytest.mark.parametrize("bids", [[["1.1234567890123456789", "1"]], [["1"]], [["a", "b"]], {}])
def test_levels_that_are_no_pairs_of_decimals_stay_text(bids: object) -> None:
    frame = Columns("book").typed(texts_of("book", msgspec.json.encode(BOOK | {"bids": bids})))
    assert frame["bids"].to_list() == [msgspec.json.encode(bids).decode()]


def test_new_values_and_fields_of_newer_bridges_are_accepted() -> None:
    value = msgspec.json.encode(BOOK | {"source": "telepathy", "mood": 1})
    assert texts_of("book", value)["source"].to_list() == ["telepathy"]


@pytest.mark.parametrize(
    "changes", [{"message_type": "trade"}, {"last_update_id": 2**63}, {"symbol": None}]
)
def test_a_record_that_is_no_event_of_the_type_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        Columns("book").decode(msgspec.json.encode(BOOK | changes))


def test_without_polars_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtra, match=r"pip install '.\[export\]'"):
        Columns("trade")
