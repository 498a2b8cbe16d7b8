"""What each kind of event proves about itself: the exchange's continuity rules, as data."""

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

# The exchange's ids are below 2^53, times too; what is not would also overflow the id ranges.
Id = Annotated[int, Meta(ge=0, le=2**53)]
Claim = Literal["completeness", "order", "no repeats"]


class Rule(msgspec.Struct, frozen=True):
    """How one kind of event counts.

    `first` and `last` are the fields with the ids an event covers, both ends included; `step` is
    the least rise from one event to the next; `contiguous` where it is also the greatest. `detail`
    is the field that tells the streams of one symbol apart.
    """

    first: str
    last: str
    step: int
    contiguous: bool = False
    detail: str | None = None

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What records without a finding prove."""
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


class Format(msgspec.Struct, frozen=True):
    """How the records of one kind are read: no more of each than its rule needs.

    `decode` raises one of UNREADABLE for a record of another kind, or none at all.
    """

    decode: Callable[[bytes], Any]
    ids: Callable[[Any], tuple[int, int]]
    name: Callable[[Any], tuple[str, str]]


# What msgspec raises on bytes it cannot read: text that is no UTF-8 and nesting past the
# interpreter's limit have errors of their own; TypeError is a record without a value.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError)


def record_format(kind: str) -> Format:
    """The format of one kind of RULES."""
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
        name=attrgetter("symbol", rule.detail or "symbol"),
    )
