"""Inputs that are nearly right: real ones with some bytes or some JSON values changed."""

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
ODD_VALUES = JSON_VALUES | st.sampled_from(
    [
        *(
            -1,
            2**31,
            2**53,
            2**63,
            2**64,
            10**18,
            10**400,
            1e300,
            "",
            "1e5",
            "NaN",
            "１",
            "-0",
            " 1",
        ),
        *("a\x00b", "牛", "\x1b[2J", "A@B", [["1"]], [], {}, [[[[]]]] * 9),
    ]
)
# Texts with a meaning in one of the formats.
_PIECES = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\n", b"\x00", b"\xff", b"null", b"-"),
        *(b"9" * 30, b"1e999", b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"\\ud800"),
    ]
)


def damaged(corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Draw an input of a corpus that is damaged, or arbitrary bytes."""
    return _with_other_bytes(corpus) | _with_other_values(corpus) | st.binary()


@st.composite
def _with_other_bytes(draw: st.DrawFn, corpus: Sequence[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = begin + draw(st.integers(0, 4) | st.integers(0, len(data)))
        piece = bytes(data[begin:end])
        data[begin:end] = draw(
            st.binary(max_size=3)
            | _PIECES
            | st.integers(0, 3).map(lambda count, piece=piece: piece * count)  # type: ignore[misc]
        )
    return bytes(data)


@st.composite
def _with_other_values(draw: st.DrawFn, corpus: Sequence[bytes]) -> bytes:
    """Draw JSON with fields removed or of another type, at any depth."""
    data = draw(st.sampled_from(corpus))
    try:
        root = [json.loads(data)]
    except ValueError:
        return data
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(_places(root)))
        if draw(st.booleans()) or container is root:
            container[key] = deepcopy(draw(ODD_VALUES))
        else:
            del container[key]
    return json.dumps(root[0], ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Return each container in a value, with each key in it."""
    if not isinstance(node, dict | list):
        return []
    items = list(node.items() if isinstance(node, dict) else enumerate(node))
    below = [place for _, child in items for place in _places(child)]
    return [(node, key) for key, _ in items] + below
