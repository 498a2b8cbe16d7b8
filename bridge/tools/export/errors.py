"""The errors of an export."""

from pathlib import Path
from typing import ClassVar

from bridge.errors import TickbridgeError


class ExportRefused(TickbridgeError):
    """The folder cannot take this export."""

    exit_code: ClassVar[int] = 2

    def __init__(self, folder: Path, what: str, remedy: str) -> None:
        super().__init__(f"{folder} {what}; {remedy}")


class PartDamaged(TickbridgeError):
    """A file of an export is not what the export wrote."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is damaged: its SHA-256 is not that of the manifest; delete this file and run "
            "the command again, which writes it again from Kafka"
        )


class ExportFailed(TickbridgeError):
    """A file of an export cannot be read or written."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"cannot use {path}: {error.strerror or error}; when that is mended, run the command "
            "again to continue"
        )


class NoEvents(TickbridgeError):
    """A symbol of an export has no events."""

    def __init__(self, symbols: list[str], message_types: list[str]) -> None:
        super().__init__(
            f"no {' or '.join(message_types)} event of {', '.join(symbols)} is in this time range; "
            "check how the exchange writes the symbol, for example BTCUSDT, and the time range"
        )
