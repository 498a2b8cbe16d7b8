"""Reads the parameters of a request, and refuses those that Binance would refuse."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

Query = Mapping[str, str]
_ZONE = re.compile(r"(-?)(\d{1,2})(?::(\d\d))?")


class Refusal(Exception):
    """A request is refused with an HTTP status, Binance's code and its message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status = status
        self.body = msgspec.json.encode({"code": code, "msg": message})
        super().__init__(message)


def parse_query(query: str) -> dict[str, str]:
    """Return the parameters of a query; a plus stays a plus (`kline_1d@+08:00`), as at Binance."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def positive(query: Query, name: str, default: int) -> int:
    value = integer(query, name)
    if value == 0:
        raise Refusal(400, -1130, f"Data sent for parameter '{name}' is not valid.")
    return default if value is None else value


def integer(query: Query, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):  # noqa: PLR2004 (Binance's)
        raise Refusal(
            400,
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        )
    return int(text)


def zone_ms(query: Query) -> int:
    """Return the offset of `timeZone` in milliseconds: hours, or hours and minutes."""
    zone = _ZONE.fullmatch(query.get("timeZone", "0"))
    if zone is None:
        raise Refusal(400, -1130, "Data sent for parameter 'timeZone' is not valid.")
    offset_ms = (int(zone[2]) * 60 + int(zone[3] or 0)) * 60_000
    return -offset_ms if zone[1] else offset_ms


def symbol_list(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        raise Refusal(400, -1100, "Illegal characters found in parameter 'symbols'.") from None
