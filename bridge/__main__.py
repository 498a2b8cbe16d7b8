"""Run `python -m bridge`, which is the same as `tickbridge`."""

import os
import signal
import sys
from typing import NoReturn

TERMINATED = 143


def main() -> None:
    """Run the command line, and exit with the command's exit code."""
    # The first process of a container has no default action for signals. Without this handler
    # SIGTERM is ignored until the service sets its own, and always by a command that sets none.
    # It is set before the imports, which take most of a second.
    signal.signal(signal.SIGTERM, _terminate)
    # A terminal that is closed ends a command in the same way, unless nohup has started it.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    _open_streams()
    from bridge.cli.app import app

    app()


def _open_streams() -> None:
    """Open the standard streams that are closed (`>&-`). Otherwise the first socket would get the
    number of one. What a command writes to a closed standard output fails then, as it should.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - open until the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _terminate(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
