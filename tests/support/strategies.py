"""Strategies for any event of the bridge, from the annotations of `core/model/events.py`."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from bridge.core.model.events import Event

TEXT = st.text(st.characters(codec="utf-8"))
DECIMALS = st.from_regex(r"-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,8})?", fullmatch=True)


def events_of(event_type: type[Event]) -> SearchStrategy[Any]:
    hints = get_type_hints(event_type, include_extras=True)
    fields = {name: values_of(hints[name]) for name in event_type.__struct_fields__}
    return st.builds(event_type, **fields)


def values_of(hint: Any) -> SearchStrategy[Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        patterns = [meta for meta in arguments[1:] if "pattern" in (meta.extra_json_schema or {})]
        return DECIMALS if patterns else values_of(arguments[0])
    if origin in {Union, types.UnionType}:
        return st.one_of(*map(values_of, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    return {str: TEXT, int: st.integers(0, 2**53), bool: st.booleans(), types.NoneType: st.none()}[
        hint
    ]
