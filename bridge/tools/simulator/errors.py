"""What the simulator raises by name.

TickbridgeError
└── SimulatorError    2  it was asked for something it cannot simulate
    └── CaptureError  2  a capture that cannot be read: file and line
"""

from pathlib import Path

from bridge.errors import TickbridgeError


class SimulatorError(TickbridgeError):
    """The simulator was asked for something it cannot do."""

    exit_code = 2


class CaptureError(SimulatorError):
    """A capture that cannot be read; the text names the file, the line and the remedy."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        self.path = path
        self.line = line
        super().__init__(f"{path}, line {line}: {what}")
