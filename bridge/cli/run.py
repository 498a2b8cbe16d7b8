"""`tickbridge run`."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from bridge.cli.options import Config, examples, run_async

if TYPE_CHECKING:
    from bridge.settings import Settings
    from bridge.settings.watcher import SettingsFile


def add_to(app: typer.Typer) -> None:
    app.command(
        "run",
        epilog=examples(
            "tickbridge run -c tickbridge.yaml",
            "TICKBRIDGE_BINANCE__SYMBOLS=BTCUSDT,ETHUSDT tickbridge run",
        ),
    )(run)


def run(config: Config = None) -> None:
    """Run the service: from Binance to Kafka and Redis, until SIGTERM or Ctrl-C.

    Delivers the waiting records before it stops. Exits with 0, or with 3 if
    records are left. Exits with 4 if another bridge has taken over its topics.
    With cluster.standby or cluster.shards the bridges share the work instead.

    Changes to symbols and streams in the settings file take effect at once.
    SIGHUP reloads the settings.
    """
    with _nothing_collected():
        from bridge.monitoring import logs
        from bridge.settings.watcher import SettingsFile

    with SettingsFile(config) as file:
        settings = file.load()
        logs.configure(settings.log)
        _run(settings, file)


def _run(settings: "Settings", file: "SettingsFile") -> None:
    import structlog

    from bridge.errors import TickbridgeError

    try:
        run_async(_serve(settings, file))
    except TickbridgeError as error:
        # The last line of the log has the same format as all others.
        structlog.get_logger(__name__).error("failed", error=str(error))
        raise typer.Exit(error.exit_code) from error


async def _serve(settings: "Settings", file: "SettingsFile") -> None:
    with _nothing_collected():
        from bridge.app.service import Service

    await Service(settings, file).run()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Disable garbage collection during imports, and exclude what they made from any later one.

    It would free nothing: it took 0.1 s of the 0.8 s of the start, and later 6 % of the time with
    1,500 symbols, because the lists of an order book cause many collections.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
