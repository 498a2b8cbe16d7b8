"""The schemas match the events, are complete, and accept what the bridge writes."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge.core.model.events import BASE_UNIT, EVENT_TYPES, PRICE_UNIT, QUOTE_UNIT, TIME_UNIT
from bridge.tools import schemas
from tests.support.strategies import events_of

ROOT = Path(__file__).parents[2]
VALIDATORS = {
    name: Draft202012Validator(schemas.schema(event_type))
    for name, event_type in EVENT_TYPES.items()
}


def test_the_committed_files_are_what_is_generated() -> None:
    assert schemas.check(ROOT / "schemas") == []


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.json").touch()
    for path in schemas.write(tmp_path):
        assert path.read_text() == (ROOT / "schemas" / path.name).read_text()
    assert schemas.check(tmp_path) == []


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_schema_is_one_and_is_open(name: str) -> None:
    schema = json.loads((ROOT / "schemas" / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:tickbridge:event:{name}"
    assert schema["properties"]["message_type"]["const"] == name
    assert schema["additionalProperties"] is True


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_field_is_described_and_every_amount_has_a_unit(name: str) -> None:
    for field, body in schemas.schema(EVENT_TYPES[name])["properties"].items():
        assert body.get("description"), field
        text = json.dumps(body)
        assert text.count('"pattern"') <= text.count('"x-unit"'), field
        assert "x-unit" in text or not field.endswith(("time", "timestamp", "received")), field


@pytest.mark.parametrize("name", EVENT_TYPES)
@given(data=st.data())
def test_every_event_is_valid(name: str, data: st.DataObject) -> None:
    event = data.draw(events_of(EVENT_TYPES[name]))
    VALIDATORS[name].validate(json.loads(msgspec.json.encode(event)))


@pytest.mark.parametrize(
    "change", [{"price": 61837.63}, {"price": "1e5"}, {"side": "long"}, {"trade_id": None}]
)
def test_what_the_rules_forbid_is_invalid(change: dict[str, Any]) -> None:
    trade = {
        "message_type": "trade",
        "venue": "binance.spot",
        "symbol": "BTCUSDT",
        "timestamp": None,
        "received": 1,
        "source": "websocket",
        "trade_id": 1,
        "price": "1.0",
        "volume": "1.0",
        "side": "buy",
    }
    assert VALIDATORS["trade"].is_valid(trade)
    assert VALIDATORS["trade"].is_valid(trade | {"added": 1})
    assert not VALIDATORS["trade"].is_valid(trade | change)


def test_the_document_names_every_event_field_and_unit() -> None:
    text = (ROOT / "docs" / "reference" / "events.md").read_text()
    words = {*EVENT_TYPES, PRICE_UNIT, BASE_UNIT, QUOTE_UNIT, TIME_UNIT}
    for event_type in EVENT_TYPES.values():
        words |= set(event_type.__struct_fields__)
    assert [word for word in sorted(words) if word not in text] == []
