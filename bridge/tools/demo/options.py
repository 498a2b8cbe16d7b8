"""The options of the demo, and the settings of the bridge it shows."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bridge import settings
from bridge.settings.load import DEFAULT_FILE
from bridge.settings.urls import SecretUrl
from bridge.tools.embedded import LOOPBACK, EmbeddedKafka, EmbeddedRedis

DEFAULT_SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
# Ctrl-C must stop the demo quickly. On loopback the sinks drain in milliseconds.
SHUTDOWN_TIMEOUT_S = 1.5
HTTP_PORT = settings.Http().port


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The command line of the demo.

    `seconds`: stop after this time; None: run until Ctrl-C. `captures`: files to play instead of
    connecting to Binance. `symbols`: symbols to show; default: those of the settings file, or else
    DEFAULT_SYMBOLS. `plain`: print a line a second, even in a terminal. `config`: a settings file,
    of which only the section `binance` is used; default: `tickbridge.yaml` if it exists.
    """

    seconds: float | None
    captures: list[Path]
    symbols: list[str]
    plain: bool
    config: Path | None


def load_binance(options: DemoOptions, **overrides: object) -> settings.Settings:
    """Load the settings, of which only the section `binance` is used. Raises SettingsError.

    Environment variables are ignored, because they may name the brokers of a real bridge.
    """
    file = options.config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    symbols = options.symbols or ([] if file else list(DEFAULT_SYMBOLS))
    chosen = ({"symbols": symbols} if symbols else {}) | overrides
    return settings.load_settings(
        file or Path(os.devnull), environment={}, overrides={"binance": chosen}
    )


def with_brokers(
    loaded: settings.Settings,
    binance: settings.Binance,
    kafka: EmbeddedKafka,
    redis: EmbeddedRedis,
) -> settings.Settings:
    """Return the settings of the bridge: this exchange and these brokers.

    The mock cluster of librdkafka refuses CreateTopics, but creates a topic on first use.
    """
    return loaded.model_copy(
        update={
            "binance": binance,
            "kafka": settings.Kafka(
                bootstrap_servers=[kafka.bootstrap_servers], create_topics=False
            ),
            "redis": settings.Redis(url=SecretUrl(redis.url)),
            "http": settings.Http(host=LOOPBACK, port=http_port()),
            "log": settings.Log(level="warning"),
            "shutdown_timeout_s": SHUTDOWN_TIMEOUT_S,
        }
    )


def http_port() -> int:
    """Return HTTP_PORT if it is free; otherwise 0, which takes any free port."""
    with suppress(OSError), socket.create_server((LOOPBACK, HTTP_PORT)):
        return HTTP_PORT
    return 0
