"""The events of one message type as columns of polars: what an export and `to_polars` share.

The columns are the fields of the event, in the order of its class. A frame of texts has the digits
that the exchange sent; `typed` converts it to decimals, times and lists.
"""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from bridge.core.model.events import EVENT_TYPES, TIME_UNIT
from bridge.errors import MissingExtra

if TYPE_CHECKING:
    import polars as pl

# 20 digits before the point and 18 after it. Binance sends at most 8 after it.
DECIMAL_DIGITS, DECIMAL_PLACES = 38, 18
_TOO_LONG = rf"[0-9]{{{DECIMAL_DIGITS - DECIMAL_PLACES + 1}}}|\.[0-9]{{{DECIMAL_PLACES + 1}}}"

Kind = Literal["text", "integer", "time", "decimal", "flag", "levels"]
# polars has integers of 64 bits.
_Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# Texts also for fields that may get new values in newer bridges, like `source`.
_DECODED: Mapping[Kind, Any] = {
    "text": str,
    "integer": _Integer,
    "time": _Integer,
    "decimal": str,
    "flag": bool,
    # Kept as JSON: 40 levels as objects and back to JSON take 20 us.
    "levels": msgspec.Raw,
}
_KINDS: Mapping[Any, Kind] = {str: "text", int: "integer", bool: "flag", list: "levels"}
# The fields with the first and the last id of an event, of types whose events have ids.
_ID_FIELDS = {
    "trade": ("trade_id", "trade_id"),
    "agg_trade": ("agg_trade_id", "agg_trade_id"),
    "block_trade": ("trade_id", "trade_id"),
    "quote": ("update_id", "update_id"),
    "book": ("last_update_id", "last_update_id"),
    "book_delta": ("first_update_id", "last_update_id"),
}


def check_polars() -> None:
    """Raise MissingExtra if the library polars cannot be imported."""
    try:
        import polars as pl  # noqa: F401 - only whether it can be imported
    except ImportError as error:
        raise MissingExtra("an export or to_polars", "polars", "export") from error


class Columns:
    """The columns of a message type. `kinds` has their names and kinds, and `id_fields` the fields
    with the first and the last id of an event. `decode` reads one event; it raises what msgspec
    raises.

    Raises MissingExtra.
    """

    def __init__(self, message_type: str) -> None:
        check_polars()
        event_type = EVENT_TYPES[message_type]
        fields = msgspec.structs.fields(event_type)
        self.message_type = message_type
        self.kinds: dict[str, Kind] = {field.name: _kind_of(field.type)[0] for field in fields}
        self.id_fields = _ID_FIELDS.get(message_type)
        row = msgspec.defstruct(
            "Row", map(_decoded_field, fields), tag_field="message_type", tag=message_type, gc=False
        )
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(row).decode

    def texts(self, rows: Sequence[msgspec.Struct] = ()) -> "pl.DataFrame":
        """Return decoded events as a frame: decimals as text, times as integers, levels as JSON."""
        import polars as pl

        types_of: dict[Kind, Any] = {"integer": pl.Int64, "time": pl.Int64, "flag": pl.Boolean}
        return pl.DataFrame(
            [
                pl.Series(name, _values(rows, name, kind), types_of.get(kind, pl.String))
                for name, kind in self.kinds.items()
            ]
        )

    def joined(self, frames: Iterable["pl.DataFrame"]) -> "pl.DataFrame":
        """Return frames of texts as one, in their order."""
        import polars as pl

        return pl.concat([self.texts(), *frames])

    def typed(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """Return a frame of texts with decimals, times in UTC, and levels as lists of structs.

        A column of numbers that are longer than a decimal stays text.
        """
        return frame.with_columns(self._typed(frame[name], kind) for name, kind in self._others())

    def _others(self) -> Iterable[tuple[str, Kind]]:
        return ((name, k) for name, k in self.kinds.items() if k in {"time", "decimal", "levels"})

    def _typed(self, series: "pl.Series", kind: Kind) -> "pl.Series":
        import polars as pl

        if kind == "time":
            return series.cast(pl.Datetime("us", "UTC"))
        # polars rounds further decimal places without a word.
        if series.str.contains(_TOO_LONG).any():
            return series
        try:
            if kind == "decimal":
                return series.cast(self._decimal())
            # One fetch after the other: decoded at once, a part takes 300 MB more.
            return pl.concat(map(self._levels, series.get_chunks()))
        except (pl.exceptions.InvalidOperationError, pl.exceptions.ComputeError):
            return series

    def _levels(self, series: "pl.Series") -> "pl.Series":
        import polars as pl

        level = pl.element().list
        values = [
            level.get(place).cast(self._decimal()).alias(name)
            for place, name in enumerate(("price", "volume"))
        ]
        decoded = series.str.json_decode(pl.List(pl.List(pl.String)))
        return decoded.to_frame().select(pl.first().list.eval(pl.struct(values))).to_series()

    def _decimal(self) -> "pl.Decimal":
        import polars as pl

        return pl.Decimal(DECIMAL_DIGITS, DECIMAL_PLACES)


def _values(rows: Sequence[msgspec.Struct], name: str, kind: Kind) -> list[Any]:
    values = map(attrgetter(name), rows)
    if kind == "levels":
        return [bytes(levels).decode() for levels in values]
    return list(values)


def _decoded_field(field: msgspec.structs.FieldInfo) -> Any:
    kind, is_optional = _kind_of(field.type)
    hint = _DECODED[kind] | None if is_optional else _DECODED[kind]
    return (field.name, hint) if field.required else (field.name, hint, field.default)


def _kind_of(hint: Any) -> tuple[Kind, bool]:
    """Return the kind of a field by its annotation in `core/model/events.py`, and whether it may be
    null.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        schemas = [meta.extra_json_schema or {} for meta in arguments[1:]]
        if any("pattern" in schema for schema in schemas):
            return "decimal", False
        is_time = any(schema.get("x-unit") == TIME_UNIT for schema in schemas)
        return ("time", False) if is_time else _kind_of(arguments[0])
    if types.NoneType in arguments:
        (inner,) = (each for each in arguments if each is not types.NoneType)
        return _kind_of(inner)[0], True
    return _KINDS[str if origin is Literal else origin or hint], False
