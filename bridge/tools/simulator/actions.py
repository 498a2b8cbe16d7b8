"""What a connection under a plan does, said before it is done."""

from enum import Enum, auto
from typing import NamedTuple

from bridge.tools.simulator.session import Close


class Command(Enum):
    """What it does beside sending frames and closing."""

    ABORT = auto()
    ANNOUNCE_SHUTDOWN = auto()
    STOP_READING = auto()
    READ_AGAIN = auto()


class Binary(NamedTuple):
    """A binary frame."""

    data: bytes


Action = bytes | Binary | Close | Command
"""A text frame, another frame, the end of the connection, or something else."""
