"""Run `python -m bridge`, which is the same as `tickbridge`."""

import signal
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
    from bridge.cli.app import app

    app()


def _terminate(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
