"""What keeps a benchmark from being run."""

from bridge.errors import TickbridgeError


class BenchRefused(TickbridgeError):
    """Something is asked for that cannot be had: brokers, a library, a file."""

    exit_code = 2

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


class BenchFailed(TickbridgeError):
    """A process of the benchmark has ended or does not answer: nothing was measured."""
