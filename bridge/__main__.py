"""`python -m bridge`, the same as `tickbridge`."""

import signal
from typing import NoReturn

TERMINATED = 143


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    # The first process of a container has no default action: SIGTERM would be passed over until
    # the service has set its own handler, and for ever by a command that sets none. So this comes
    # before the imports, which take most of a second.
    signal.signal(signal.SIGTERM, _terminate)
    from bridge.cli.app import app

    app()


def _terminate(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
