"""The kinds of values a setting may have. Each says what is wrong with a value and what to do."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from string import Formatter
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, Secret

from bridge.core.model.stream import check_stream_name, check_suffix, upper_symbol

MASK = "***"
TOPIC_MAX_CHARS = 249  # Kafka's own limit
_SYMBOL = re.compile(r"[\w.*?]{1,50}")  # \w: Binance lists symbols with Chinese characters
_LONGEST = {"venue": "binance.spot", "message_type": "reference_price"}

T = TypeVar("T")


class WrongValue(ValueError):
    """What is wrong with a value, and the remedy, in words for the user and without the value."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Password(Secret[str]):
    """A text that is never shown."""

    def _display(self) -> str:
        return MASK


def _listed(value: object) -> object:
    """Read a list written as one text, as variables have it: JSON, or items between commas."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [item.strip() for item in value.split(",") if item.strip()]
    try:
        return json.loads(value)
    except ValueError:
        raise WrongValue(
            "starts like a JSON list and is none", 'write a,b,c or ["a", "b", "c"]'
        ) from None


def _unique(items: list[T]) -> list[T]:
    return list(dict.fromkeys(items))


def _symbol(text: str) -> str:
    symbol = upper_symbol(text.strip())
    if not _SYMBOL.fullmatch(symbol):
        raise WrongValue("is no symbol", "write it as Binance does (BTCUSDT), or a pattern (*USDT)")
    return symbol


def _checked(check: Callable[[str], None]) -> Callable[[str], str]:
    def checked(name: str) -> str:
        check(name)
        return name

    return checked


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise WrongValue(
            f"cannot be read ({error.strerror})", "name a file this user may read"
        ) from None
    return path


def _writable(folder: Path) -> Path:
    if not folder.is_dir():
        raise WrongValue("is no folder", "create it, or name another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WrongValue("cannot be written to", "give this user the right, or name another folder")
    return folder


def _topic(template: str) -> str:
    remedy = "write {venue}.{message_type} or the like, of letters, digits and . _ -"
    try:
        fields = {field for _, field, *_ in Formatter().parse(template) if field is not None}
        topic = template.format(**_LONGEST)
    except (ValueError, LookupError, AttributeError):
        raise WrongValue("is no template of {venue} and {message_type}", remedy) from None
    if not {"message_type"} <= fields <= set(_LONGEST):
        raise WrongValue("must hold {message_type}, and nothing else but {venue}", remedy)
    if not re.fullmatch(rf"[a-zA-Z0-9._-]{{1,{TOPIC_MAX_CHARS}}}", topic):
        raise WrongValue(f"gives {topic!r}, which Kafka takes for no topic", remedy)
    return template


def _time_of_day(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value.strip()):
        return value.strip()
    raise WrongValue("is no time of the day", 'write it as "04:00", in quotes: YAML reads a number')


def _not_zero(number: int) -> int:
    if number == 0:
        raise WrongValue("must not be 0", "-1 leaves it unlimited, or to the broker")
    return number


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Listed = Annotated[
    list[T],
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    AfterValidator(_unique),
]
Symbol = Annotated[str, AfterValidator(_symbol)]
StreamKind = Annotated[str, AfterValidator(_checked(check_suffix))]
StreamName = Annotated[str, AfterValidator(_checked(check_stream_name))]
TimeOfDay = Annotated[str, BeforeValidator(_time_of_day, json_schema_input_type=str)]
ReadableFile = Annotated[Path, AfterValidator(_readable)]
WritableFolder = Annotated[Path, AfterValidator(_writable)]
TopicTemplate = Annotated[str, AfterValidator(_topic)]
Size = Annotated[ByteSize, BeforeValidator(lambda value: value, json_schema_input_type=int | str)]
NotZero = Annotated[int, Field(ge=-1, le=2**63 - 1), AfterValidator(_not_zero)]
AnyCase = BeforeValidator(_lower)
