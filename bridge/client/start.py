"""The places at which a feed can start."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from bridge.client.continuity import CONTIGUOUS
from bridge.core.model.events import GAP


class FromId(NamedTuple):
    """Starts at the event with this id, of one message type with contiguous ids and one symbol."""

    id: int


Start = Literal["earliest", "latest"] | datetime | FromId | Mapping[str, int]
"""The oldest records, the next new one, the first record of that time or later, the event with that
id, or the `position` of a feed.
"""


def check_start_of_group(group: str, start: Start) -> None:
    """Raise ValueError if a group has no name, or cannot start there."""
    if not group:
        raise ValueError("group is empty; give the group a name, or None to read without one")
    if isinstance(start, FromId | Mapping):
        raise ValueError(  # noqa: TRY004 - the type is right, but not with a group
            f"start {start!r} cannot be used with a group, which continues at the offsets that it "
            "has committed; give earliest, latest or a datetime for partitions without any"
        )


def check_start(
    start: Start, topics: Iterable[str], message_types: Iterable[str], symbols: Iterable[str]
) -> Start:
    """Return `start` if it is one. Raises ValueError if it is not."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ValueError(f"start {start} has no time zone; add one, for example datetime.UTC")
    elif isinstance(start, FromId):
        _check_id(start.id, [each for each in message_types if each != GAP], list(symbols))
    elif isinstance(start, Mapping):
        _check_position(start, topics)
    elif str(start) not in {"earliest", "latest"}:
        raise ValueError(
            f"start {start!r} is not earliest, latest, a datetime, a FromId or a position"
        )
    return start


def _check_id(number: object, message_types: list[str], symbols: list[str]) -> None:
    if not _is_whole(number):
        raise ValueError(f"start names the id {number!r}, which is no id")
    if len(symbols) != 1 or len(message_types) != 1 or message_types[0] not in CONTIGUOUS:
        raise ValueError(
            f"start names the id {number}; that needs exactly one symbol, and one message type of "
            + ", ".join(CONTIGUOUS)
        )


def _check_position(position: Mapping[str, int], topics: Iterable[str]) -> None:
    for name, offset in position.items():
        topic, _, partition = name.rpartition(":")
        if topic not in topics or not partition.isdecimal():
            raise ValueError(
                f"start names {name!r}, which is no partition of {', '.join(topics)}; give the "
                "position of a feed of the same topics"
            )
        if not _is_whole(offset):
            raise ValueError(f"start[{name!r}] is {offset!r}, which is no offset")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and value >= 0
