"""Errors that the simulator raises.

TickbridgeError
└── SimulatorError    2  the simulator cannot do what was asked
    └── CaptureError  2  a capture cannot be read; names file and line
"""

from pathlib import Path

from bridge.errors import TickbridgeError


class SimulatorError(TickbridgeError):
    """The simulator cannot do what was asked."""

    exit_code = 2


class CaptureError(SimulatorError):
    """A capture cannot be read. The text names the file, the line and the remedy."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        self.path = path
        self.line = line
        super().__init__(f"{path}, line {line}: {what}")
