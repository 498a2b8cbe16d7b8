"""What the demo can be told, and the settings of the bridge it shows."""

import os
from dataclasses import dataclass
from pathlib import Path

from bridge import settings
from bridge.settings.load import DEFAULT_FILE
from bridge.settings.urls import SecretUrl
from bridge.tools.embedded import EmbeddedKafka, EmbeddedRedis

DEFAULT_SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
# Ctrl-C must not leave anybody waiting; on loopback the sinks are empty in milliseconds.
SHUTDOWN_TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`seconds`: end by itself after so long. `captures` are played instead of asking Binance.

    `symbols`: those to show, by default the file's, or else three well-known ones. `plain`: a line
    a second also in a terminal. `config`: a settings file, by default `tickbridge.yaml` if there is
    one; of it only the section `binance` counts.
    """

    seconds: float | None
    captures: list[Path]
    symbols: list[str]
    plain: bool
    config: Path | None


def load_binance(options: DemoOptions, **overrides: object) -> settings.Settings:
    """The settings as far as the exchange goes. Raises SettingsError.

    The environment is not asked: it is about the brokers of somebody's real bridge.
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
    """The settings of the bridge: this exchange, these brokers, any free HTTP port.

    librdkafka's mock cluster knows no CreateTopics; a topic is there once somebody asks for it.
    """
    return loaded.model_copy(
        update={
            "binance": binance,
            "kafka": settings.Kafka(
                bootstrap_servers=[kafka.bootstrap_servers], create_topics=False
            ),
            "redis": settings.Redis(url=SecretUrl(redis.url)),
            "http": settings.Http(port=0),
            "log": settings.Log(level="warning"),
            "shutdown_timeout_s": SHUTDOWN_TIMEOUT_S,
        }
    )
