"""The exchange's continuity rules as data: what the ids of each message type can prove."""

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bridge.core.model.unreadable import UNREADABLE

# The ids and times of the exchange are below 2^53. A larger number would overflow the id ranges.
Id = Annotated[int, Meta(ge=0, le=2**53)]
Claim = Literal["completeness", "order", "no repeats"]


class Rule(msgspec.Struct, frozen=True):
    """The id fields of one message type, and the way they rise.

    `first` and `last` name the fields with the ids an event covers, both ends included. `step` is
    the smallest rise from one event to the next. `contiguous` means that it is also the largest.
    `detail` names the field that tells the streams of one symbol apart.
    """

    first: str
    last: str
    step: int
    contiguous: bool = False
    detail: str | None = None

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Return the claims that hold for records without a finding."""
        if self.contiguous:
            return ("completeness", "order", "no repeats")
        return ("order", "no repeats") if self.step else ("order",)


def _contiguous(first: str, last: str | None = None) -> Rule:
    return Rule(first, last or first, step=1, contiguous=True)


def _rising(field: str) -> Rule:
    return Rule(field, field, step=1)


def _timed(detail: str | None = None) -> Rule:
    return Rule("timestamp", "timestamp", step=0, detail=detail)


RULES = {
    "trade": _contiguous("trade_id"),
    "agg_trade": _contiguous("agg_trade_id"),
    "book_delta": _contiguous("first_update_id", "last_update_id"),
    "quote": _rising("update_id"),
    "book": _rising("last_update_id"),
    "block_trade": _rising("trade_id"),
    "ticker": _timed("window"),
    "mini_ticker": _timed(),
    "candle": _timed("interval"),
    "average_price": _timed("interval"),
    "reference_price": _timed(),
}

# The symbol and the detail of an event, such as the interval of a candle. A symbol without details
# stands there twice. A plain tuple, because one is made for each record.
SymbolDetail = tuple[str, str]


class Format(msgspec.Struct, frozen=True):
    """A decoder for the records of one message type that reads only what its rule needs.

    `decode` raises one of NO_EVENT if the record is of another message type or no event
    at all.
    """

    decode: Callable[[bytes], Any]
    ids: Callable[[Any], tuple[int, int]]
    symbol_detail: Callable[[Any], SymbolDetail]


# TypeError: the record has no value.
NO_EVENT = (*UNREADABLE, TypeError)


def record_format(kind: str) -> Format:
    """Return the format of a message type of RULES."""
    rule = RULES[kind]
    fields: dict[str, Any] = {"symbol": str, "timestamp": int | None, "received": int}
    fields |= {rule.first: Id, rule.last: Id}
    if rule.detail:
        fields[rule.detail] = str
    struct = msgspec.defstruct(
        "Tick", list(fields.items()), tag_field="message_type", tag=kind, gc=False
    )
    return Format(
        decode=msgspec.json.Decoder(struct).decode,
        ids=attrgetter(rule.first, rule.last),
        symbol_detail=attrgetter("symbol", rule.detail or "symbol"),
    )
