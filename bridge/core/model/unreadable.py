"""Reads values that may not be ours, such as the records of a topic."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")

# msgspec raises these for bytes that it cannot decode. UnicodeDecodeError: the text is not UTF-8.
# RecursionError: the value is nested deeper than the interpreter allows.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_ours(decode: Callable[[bytes], T], value: bytes | None) -> T | None:
    """Return the decoded value of a record; None if it is not one of ours."""
    try:
        return decode(value or b"")
    except UNREADABLE:
        return None
