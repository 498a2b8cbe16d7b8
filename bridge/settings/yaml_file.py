"""Reads the YAML file, and reports errors by line and column."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bridge.errors import Problem, SettingsError
from bridge.settings.files import read_file

# A thousand symbols and all settings have 40 KB.
MAX_BYTES = 2**20
# A number or a date. YAML also reads 1:1:1 as a number, and does that slowly if it is long.
MAX_VALUE_CHARS = 100
# Each alias may repeat all that was written before it.
MAX_ALIASES = 100
MAX_DEPTH = 20
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_QUOTED = re.compile(r"(?s)(alias|anchor|tag|handle) ['\"].*['\"]")
_HINT = "correct it there; a text that contains any of * & ! % @ : # needs quotes"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, in which a key that appears twice or is not text is an error.

    PyYAML itself uses the last of two equal keys, which hides a setting.
    """

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._aliases = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._aliases += isinstance(event, yaml.AliasEvent)
        if self._aliases > MAX_ALIASES:
            raise _WrongKey(f"more than {MAX_ALIASES} aliases", event.start_mark)
        if self._depth > MAX_DEPTH:
            raise _WrongKey(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag not in {_TEXT, _MERGE}:
                raise _WrongKey("a key must be text", key.start_mark)
            if key.value in seen:
                raise _WrongKey(f"the key {key.value} appears twice", key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        is_text = not isinstance(node, yaml.ScalarNode) or node.tag == _TEXT
        if not is_text and len(node.value) > MAX_VALUE_CHARS:
            raise _WrongKey("is too long for a number; put it in quotes", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except ValueError:  # raised by datetime for 2024-13-45, which is not a date
            raise _WrongKey(
                "looks like a date or number, but is not valid", node.start_mark
            ) from None


class _WrongKey(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the settings of a YAML file, by section. An empty section is left out.

    Raises SettingsError. Its text names the line and column, and never quotes a value.
    """
    try:
        data = yaml.load(read_file(path, MAX_BYTES), _Loader)  # noqa: S506  # derived from the safe loader
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise SettingsError(
            [Problem(str(path), None, what, "set another file with --config")]
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        problem = _syntax_problem(path, error)
    else:
        return _sections(path, data)
    raise SettingsError([problem])  # outside `except`, whose context holds the file's text


def _sections(path: Path, data: object) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise SettingsError(
            [Problem(str(path), None, "is not a mapping", "start with a section: binance:")]
        )
    return {key: value for key, value in data.items() if value is not None}


def _syntax_problem(path: Path, error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    words = (
        getattr(error, "problem", None) or "contains characters or a depth that YAML does not allow"
    )
    words = _QUOTED.sub(r"\1", words)  # a password like *pass or !pass is an alias or tag to PyYAML
    return Problem(f"{path}{place}", None, words, _HINT)
