"""The section `binance`."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from bridge.settings import types, urls
from bridge.settings.section import Seconds, Section
from bridge.settings.types import WrongValue


class Binance(Section):
    """The market data to receive, and the hosts that serve it."""

    extra_streams: types.Listed[types.StreamName] = Field(default=[])
    """Additional streams, by their full names: btcusdt@depth@100ms, !miniTicker@arr."""
    symbols: types.Listed[types.Symbol] = Field(default=[])
    """Symbols as Binance writes them (BTCUSDT), or patterns with * and ? (*USDT)."""
    streams: types.Listed[types.StreamKind] = Field(default=["trade", "bookTicker", "ticker"])
    """Streams of each symbol, by Binance's own names: trade, kline_1m, depth20@100ms."""
    websocket_url: urls.WebSocketUrl = "wss://stream.binance.com:9443"
    """URL of the streams; wss://data-stream.binance.vision is available in more regions."""
    rest_url: urls.RestUrl = "https://api.binance.com"
    """URL of the REST API; https://data-api.binance.vision is available in more regions, but has
    only the latest 1,000 trades of each symbol."""
    compression: Literal["deflate", "none"] = "deflate"
    """WebSocket compression to request: deflate saves traffic, none saves CPU time."""
    connect_timeout_s: Seconds = 10
    """Maximum time to open a connection, in seconds."""
    ping_interval_s: Seconds = 30
    """Time between two pings to the exchange, in seconds."""
    ping_timeout_s: Seconds = 20
    """Maximum time to wait for a pong before the connection counts as dead, in seconds."""
    transport: Literal["websockets", "picows"] = "websockets"
    """WebSocket library. picows (pip install ".[fast]") takes less CPU time. It requires
    compression: none, and a ping_timeout_s that is not above ping_interval_s."""
    proxy: urls.Proxy = urls.SecretUrl("environment")
    """Proxy for WebSocket and REST: environment (HTTPS_PROXY, ALL_PROXY and NO_PROXY, as in other
    programs), none, or http://user:password@host:port."""
    streams_per_connection: int = Field(default=200, ge=1, le=1024)
    """Maximum number of streams on one connection. Binance closes a connection that requests more
    than 1024."""
    time_unit: Literal["millisecond", "microsecond"] = "millisecond"
    """Resolution of the times that the exchange sends. Events always have microseconds."""
    first_message_timeout_s: Seconds = 60
    """Time after which a stream that has never sent anything is reported, in seconds."""
    reconnect_max_delay_s: Seconds = 30
    """Maximum delay between two attempts to connect, in seconds."""

    redundancy: int = Field(default=1, ge=1, le=2)
    """Number of connections that carry each stream at the same time. With 2, the first copy of an
    event is used, and losing one connection does not interrupt the stream."""
    connection_max_age_s: float = Field(default=84_600, gt=0, le=85_800)
    """Age at which a connection is replaced, in seconds. The new connection opens before the old
    one closes. Binance closes every connection at 86,400 seconds."""
    rotation_time: types.TimeOfDay | None = None
    """Time of day (UTC) at which connections are replaced, for example "04:00". It applies in
    addition to connection_max_age_s."""

    @property
    def uses_environment_proxy(self) -> bool:
        """Return whether environment variables name the proxy."""
        return self.proxy.get_secret_value() == "environment"

    @property
    def proxy_url(self) -> str | None:
        """Return the proxy that the settings name; None if they name none."""
        proxy = self.proxy.get_secret_value()
        return None if proxy in {"environment", "none"} else proxy

    @property
    def rotation_time_s(self) -> int | None:
        """Return the rotation time in seconds since midnight, or None if it is not set."""
        if self.rotation_time is None:
            return None
        hours, minutes = self.rotation_time.split(":")
        return int(hours) * 3600 + int(minutes) * 60

    @field_validator("rest_url")
    @classmethod
    def _of_one_exchange(cls, url: str, info: ValidationInfo) -> str:
        """Refuse hosts of two exchanges. Both have different trades under the same ids, and the
        wrong ones would fill the holes.
        """
        here, streams = urls.exchange_of(url), urls.exchange_of(info.data.get("websocket_url", url))
        if here and streams and here != streams:
            raise WrongValue(
                f"is a host of {here}, but binance.websocket_url is a host of {streams}",
                "use hosts of one exchange: missing trades are fetched from binance.rest_url by id",
            )
        return url

    @field_validator("transport")
    @classmethod
    def _what_picows_cannot_do(cls, transport: str, info: ValidationInfo) -> str:
        if transport == "picows" and info.data.get("compression") == "deflate":
            raise WrongValue("cannot decompress deflate", "set binance.compression: none")
        timeout_s = info.data.get("ping_timeout_s", 0)
        if transport == "picows" and timeout_s > info.data.get("ping_interval_s", timeout_s):
            raise WrongValue(
                "cannot wait for a pong longer than until the next ping",
                "lower binance.ping_timeout_s or raise binance.ping_interval_s",
            )
        return transport

    @field_validator("symbols")
    @classmethod
    def _something_to_do(cls, symbols: list[str], info: ValidationInfo) -> list[str]:
        if not symbols and info.data.get("extra_streams") == []:
            raise WrongValue(
                "is empty, and binance.extra_streams is empty too",
                "set symbols, for example [BTCUSDT, ETHUSDT]",
            )
        return symbols

    @field_validator("streams")
    @classmethod
    def _streams_of_symbols(cls, streams: list[str], info: ValidationInfo) -> list[str]:
        if not streams and info.data.get("symbols"):
            raise WrongValue(
                "is empty, but binance.symbols is not",
                "set streams, for example [trade], or remove binance.symbols",
            )
        return streams
