"""The errors of a benchmark."""

from bridge.errors import TickbridgeError


class BenchRefused(TickbridgeError):
    """Something that the benchmark needs is missing or wrong: brokers, a library, a file."""

    exit_code = 2

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


class BenchFailed(TickbridgeError):
    """A run could not be measured: a process has exited or does not answer."""
