"""The types of setting values. Each check reports the problem of a value and the remedy."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from string import Formatter
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, Secret

from bridge.core.binance.stream_names import check_stream_name, check_suffix
from bridge.core.model.stream import upper_symbol
from bridge.settings.files import read_file

MASK = "***"
TLS_MAX_BYTES = 2**20  # all certificates that a system trusts have 220 KB
TOPIC_MAX_CHARS = 249  # Kafka's limit
_SYMBOL = re.compile(r"[\w.*?]{1,50}")  # \w: Binance lists symbols with Chinese characters
_LONGEST = {"venue": "binance.spot", "message_type": "reference_price"}

T = TypeVar("T")


class WrongValue(ValueError):
    """The problem of a value and the remedy, as texts for the user, without the value itself."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Password(Secret[str]):
    """A text that is never shown."""

    def _display(self) -> str:
        return MASK


def _listed(value: object) -> object:
    """Return the items of a list that is one text, as in a variable: JSON, or items separated by
    commas. Any other value is returned unchanged.
    """
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [item.strip() for item in value.split(",") if item.strip()]
    try:
        return json.loads(value)
    except ValueError:
        raise WrongValue(
            "starts like a JSON list, but is not valid JSON", 'write a,b,c or ["a", "b", "c"]'
        ) from None


def _unique(items: list[T]) -> list[T]:
    return list(dict.fromkeys(items))


def _symbol(text: str) -> str:
    symbol = upper_symbol(text.strip())
    if not _SYMBOL.fullmatch(symbol):
        raise WrongValue(
            "is not a symbol", "write it as Binance does (BTCUSDT), or as a pattern (*USDT)"
        )
    return symbol


def _checked(check: Callable[[str], None]) -> Callable[[str], str]:
    def checked(name: str) -> str:
        check(name)
        return name

    return checked


def _readable(path: Path) -> Path:
    try:
        read_file(path, TLS_MAX_BYTES)
    except OSError as error:
        raise WrongValue(
            f"cannot be read ({error.strerror})", "use a file that this user can read"
        ) from None
    return path


def _writable(folder: Path) -> Path:
    """Check that a folder can be written to, or can be created."""
    exists = folder.exists()
    place = folder if exists else folder.parent
    if not place.is_dir():
        what = "is not a folder" if exists else f"cannot be created: {place} is not a folder"
        raise WrongValue(what, "create it, or set another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        what = "cannot be written to" if exists else f"cannot be created in {place}"
        raise WrongValue(what, "give this user write permission, or set another folder")
    return folder


def _topic(template: str) -> str:
    remedy = "write {venue}.{message_type} or a similar text of letters, digits and . _ -"
    try:
        fields = {field for _, field, *_ in Formatter().parse(template) if field is not None}
        topic = template.format(**_LONGEST)
    except (ValueError, LookupError, AttributeError):
        raise WrongValue("is not a template with {venue} and {message_type}", remedy) from None
    if not {"message_type"} <= fields <= set(_LONGEST):
        raise WrongValue(
            "must contain {message_type}, and no other placeholder except {venue}", remedy
        )
    if not re.fullmatch(rf"[a-zA-Z0-9._-]{{1,{TOPIC_MAX_CHARS}}}", topic):
        raise WrongValue(f"gives {topic!r}, which is not a valid topic name in Kafka", remedy)
    return template


def _time_of_day(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value.strip()):
        return value.strip()
    raise WrongValue(
        "is not a time of day", 'write it as "04:00"; without the quotes YAML reads it as a number'
    )


def _not_zero(number: int) -> int:
    if number == 0:
        raise WrongValue(
            "must not be 0",
            "use -1 for no limit (retention) or for the default of the broker (replicas)",
        )
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
