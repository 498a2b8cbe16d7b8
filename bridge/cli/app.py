"""The command line: the names of its commands, and its exit codes.

Exit codes: 0 success, 1 failure or a negative answer, 2 wrong usage or settings, 3 stopped with
undelivered records, 4 replaced by another bridge, 130 interrupted, 143 terminated.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from bridge.cli import (
    audit,
    bench,
    config,
    demo,
    export,
    price,
    record,
    run,
    schemas,
    simulate,
    status,
    tail,
    verify,
)
from bridge.cli.command_line import CommandLine, Group
from bridge.cli.options import examples
from bridge.errors import MissingExtra, TickbridgeError, first_of_ours

INTERRUPTED = 130
# The errors of a standard output that is closed or on a full disk. Those of a file are ours.
UNWRITABLE = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.ENOSPC}
# What the extra `service` brings, apart from uvloop, which no command needs.
SERVICE_LIBRARIES = {"aiohttp", "inotify_simple", "jinja2", "prometheus_client", "websockets"}


class Commands(Group):
    """All commands, and the only place where an error becomes a message and an exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command line. The help and the version are printed without `invoke`."""
        try:
            try:
                return super().main(*arguments, **options)
            finally:
                sys.stdout.flush()
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            _discard_output()
            what = f"standard output cannot be written: {error.strerror}"
            sys.exit(_exit_with(TickbridgeError(what)).exit_code)

    def invoke(self, ctx: Any) -> Any:
        with _exit_codes():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


app = CommandLine(
    cls=Commands,
    name="tickbridge",
    help="Binance market data to Kafka and Redis: complete, in order, and verifiable.",
    epilog=examples(
        "tickbridge demo                     try everything, with embedded brokers",
        "tickbridge run -c tickbridge.yaml   run the service",
        "tickbridge price BTCUSDT            show the latest price",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for register in (
    *(run, demo, status, price, tail, export),
    *(audit, verify, record, simulate, bench, config, schemas),
):
    register.add_to(app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        from importlib import metadata

        typer.echo(f"tickbridge {metadata.version('tickbridge')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            *("--version", "-V"), callback=_print_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    pass


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn an error of a command into its exit code. Our own errors never show a traceback."""
    try:
        yield
    except TickbridgeError as error:
        raise _exit_with(error) from error
    except BaseExceptionGroup as group:
        ours = first_of_ours(group)
        if ours is None:
            raise
        raise _exit_with(ours) from group
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        if library not in SERVICE_LIBRARIES:
            raise
        raise _exit_with(MissingExtra("this command", library, "service")) from error
    except BrokenPipeError:  # the reader has closed the pipe: `tickbridge tail trade | head`
        _discard_output()
        raise typer.Exit from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _discard_output() -> None:
    """Let what is left in the buffer of standard output go nowhere. Otherwise Python would report
    the same error again at its end.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_with(error: TickbridgeError) -> typer.Exit:
    typer.echo(f"tickbridge: {error}", err=True)
    return typer.Exit(error.exit_code)
