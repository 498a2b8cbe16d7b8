"""The actions of a connection under a fault plan, decided before they are carried out."""

from enum import Enum, auto
from typing import NamedTuple

from bridge.tools.simulator.session import Close


class Command(Enum):
    """An action other than sending a frame or closing."""

    ABORT = auto()
    ANNOUNCE_SHUTDOWN = auto()
    STOP_READING = auto()
    READ_AGAIN = auto()


class Binary(NamedTuple):
    """A binary frame."""

    data: bytes


Action = bytes | Binary | Close | Command
"""A text frame, a binary frame, the close of the connection, or a command."""
