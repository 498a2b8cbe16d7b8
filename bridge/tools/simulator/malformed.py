"""Broken copies of good frames."""

import re
from random import Random

from bridge.tools.simulator.faults import Malformation

OVERSIZED_BYTES = 2**20 + 1

_INTEGER = re.compile(rb'(?<=":)\d+(?=[,}])')


def malformed(text: bytes, kind: Malformation, random: Random) -> bytes:
    """Return a JSON frame, broken in this way; a frame to send as binary stays the same."""
    match kind:
        case Malformation.TRUNCATED:
            return text[: random.randrange(1, len(text))]
        case Malformation.WRONG_TYPE:
            return _INTEGER.sub(b'"n/a"', text)
        case Malformation.BINARY:
            return text
        case Malformation.OVERSIZED:
            return text[:-1] + b" " * (OVERSIZED_BYTES - len(text)) + text[-1:]
