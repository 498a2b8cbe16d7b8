"""Events as lines of a table for people."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

import msgspec

from bridge.client.events import AnyEvent, datetime_of
from bridge.monitoring.words import printable

# These are in every line, or say nothing to a reader.
_LEFT_OUT = frozenset(("venue", "symbol", "timestamp", "received", "source"))
_WIDTH_OF_SYMBOL = 12


class EventTable:
    """Makes lines. With one message type the columns have a header, which comes again if a column
    becomes wider; with several each value has its name.
    """

    def __init__(self, message_types: Iterable[str]) -> None:
        self._has_columns = len(list(message_types)) == 1
        self._widths: dict[str, int] = {}

    def lines(self, event: AnyEvent) -> Iterator[str]:
        """Yield the line of an event, and perhaps a header before it."""
        cells = _cells(event)
        if not self._has_columns:
            named = "  ".join(f"{name} {value}" for name, value in cells.items())
            yield f"{_begin(event)}  {_tag(event):<12}  {named}"
            return
        if self._widen(cells):
            names = {name: name for name in cells}
            yield self._row(f"{'time':<26}  {'symbol':<{_WIDTH_OF_SYMBOL}}", names)
        yield self._row(_begin(event), cells)

    def _widen(self, cells: dict[str, str]) -> bool:
        """Make the columns wide enough; return whether one has changed."""
        before = self._widths
        self._widths = {
            name: max(before.get(name, len(name)), len(value)) for name, value in cells.items()
        }
        return self._widths != before

    def _row(self, begin: str, cells: dict[str, str]) -> str:
        return "  ".join(
            (begin, *(f"{text:>{self._widths[name]}}" for name, text in cells.items()))
        )


def _begin(event: AnyEvent) -> str:
    """Return time and symbol: the exchange's time, or that of the arrival if it sends none."""
    at = event.received if event.timestamp is None else event.timestamp
    time = datetime_of(at).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"{time}  {printable(event.symbol):<{_WIDTH_OF_SYMBOL}}"


def _tag(event: AnyEvent) -> str:
    return str(event.__struct_config__.tag)


def _cells(event: AnyEvent) -> dict[str, str]:
    fields = msgspec.structs.asdict(event)
    return {name: _text(value) for name, value in fields.items() if name not in _LEFT_OUT}


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):  # the levels of a book: the best one, and how many there are
        best = " ".join(format(each, "f") for each in value[0]) if value else "-"
        return f"{best} of {len(value)}"
    return format(value, "f") if isinstance(value, Decimal) else printable(str(value))
