"""Turns pydantic's errors into ours: dotted key, value without secrets, problem, remedy."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge.errors import Problem
from bridge.settings.model import NESTING, PREFIX, Settings
from bridge.settings.section import Section
from bridge.settings.types import MASK, Password, WrongValue
from bridge.settings.urls import SecretUrl, hide_user

SHOWN_MAX_CHARS = 100
# A file may have thousands of wrong lines. These are enough to start with.
PROBLEMS_MAX = 100
# A name that is less similar than this is no help (0 to 1, by difflib).
LEAST_SIMILARITY = 0.5
# What no name of a setting contains.
_NO_NAME = re.compile(r"[^\w.-]")


def _known_keys() -> dict[str, FieldInfo]:
    keys: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            keys |= {f"{name}.{key}": inner for key, inner in section.model_fields.items()}
        else:
            keys[name] = field
    return keys


KEYS = _known_keys()


def variable_of(key: str) -> str:
    """Return the environment variable of a dotted key."""
    return PREFIX + key.replace(".", NESTING).upper()


SECTIONS = [name for name in Settings.model_fields if name not in KEYS]
VARIABLES = {variable_of(key): key for key in KEYS}


def is_secret(key: str) -> bool:
    """Return whether the value of this dotted key may contain a password."""
    annotation = KEYS[key].annotation
    return not {Password, SecretUrl}.isdisjoint((annotation, *get_args(annotation)))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`; None if none is similar.

    Known names with the same last part come first, whatever their section.
    """
    candidates = tuple(known)
    same = [known for known in candidates if known.rpartition(".")[2] == name.rpartition(".")[2]]
    found = difflib.get_close_matches(
        name, same or candidates, n=1, cutoff=0.0 if same else LEAST_SIMILARITY
    )
    return found[0] if found else None


def shown(value: object) -> str:
    """Return a value as an error may show it: on one line, truncated, and without a password.

    A mapping or a list could contain anything, so only its type is shown.
    """
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "[]"
    text = str(value)
    if "\n" in text:  # a pasted private key instead of the path of its file
        return MASK
    return _cut(hide_user(text))


def problems_of(error: ValidationError, origins: Mapping[str, str]) -> list[Problem]:
    """Return pydantic's errors as problems. `origins` maps a dotted key to its variable."""
    details = error.errors(include_url=False)
    problems = [_problem(each, origins) for each in details[:PROBLEMS_MAX]]
    if more := len(details) - len(problems):
        problems.append(
            Problem("the settings", None, f"have {more:,} more problems", "correct these first")
        )
    return problems


def _problem(details: ErrorDetails, origins: Mapping[str, str]) -> Problem:
    location = [_cut_name(str(part)) for part in details["loc"]]
    key = ".".join(location)
    if details["type"] == "extra_forbidden":
        return Problem(key, None, "is not a setting", _remedy_for_unknown(key))
    if key not in KEYS:
        key = ".".join(location[:2])
    if key not in KEYS and isinstance(_rule(details), WrongValue):  # about two sections
        return Problem(key, None, *_words(details, Settings.model_fields[key]))
    if key not in KEYS:
        return Problem(
            key, None, "should be a section", f"write its keys under it: {', '.join(_keys_of(key))}"
        )
    value = _value(key, details["input"], origins.get(key))
    what, remedy = _words(details, KEYS[key])
    return Problem(key, value, what, remedy)


def _cut_name(name: str) -> str:
    """Return a key as an error may show it. `password x` and `password:x` are one key to YAML."""
    sound = _NO_NAME.split(name, maxsplit=1)[0][:SHOWN_MAX_CHARS]
    return name if sound == name else f"{sound}…"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX_CHARS else f"{text[:SHOWN_MAX_CHARS]}…"


def _remedy_for_unknown(key: str) -> str:
    """Name the nearest setting, or all keys of the section if none of them resembles this one."""
    section, _, name = key.rpartition(".")
    near = nearest(key, (*KEYS, *SECTIONS))
    if section in SECTIONS and not (near or "").endswith(f".{name}"):
        names = _keys_of(section)
        similar = difflib.get_close_matches(name, names, n=1)
        if not similar:
            return f"the keys of {section} are {', '.join(names)}"
        near = f"{section}.{similar[0]}"
    if near is None:
        return f"the keys here are {', '.join(Settings.model_fields)}"
    return f"the nearest known one is {near}"


def _keys_of(section: str) -> list[str]:
    return [key.partition(".")[2] for key in KEYS if key.startswith(f"{section}.")]


def _value(key: str, value: Any, origin: str | None) -> str | None:
    if value is None:
        return None
    text = MASK if is_secret(key) else shown(value)
    return f"{text} (from {origin})" if origin else text


def _rule(details: ErrorDetails) -> Any:
    """Return the error of a rule of ours; None if pydantic's own rule was broken."""
    return details.get("ctx", {}).get("error")


def _words(details: ErrorDetails, field: FieldInfo) -> tuple[str, str]:
    error = _rule(details)
    if isinstance(error, WrongValue):
        return str(error), error.remedy
    meaning = f"meaning: {field.description}"
    if isinstance(error, ValueError):
        return str(error), meaning
    what = details["msg"].replace("Input should", "should", 1)
    if details["type"] == "string_type":
        return what, "put the value in quotes"
    default = field.get_default(call_default_factory=True)
    return what, meaning if default is None else f"{meaning} Default: {default}"
