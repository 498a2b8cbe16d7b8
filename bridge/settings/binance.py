"""The section `binance`."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from bridge.settings import types, urls
from bridge.settings.section import Seconds, Section
from bridge.settings.types import WrongValue


class Binance(Section):
    """Where the data comes from, and which."""

    extra_streams: types.Listed[types.StreamName] = Field(default=[])
    """Single streams by their whole names: btcusdt@depth@100ms, !miniTicker@arr."""
    symbols: types.Listed[types.Symbol] = Field(default=[])
    """Symbols as Binance writes them (BTCUSDT), or patterns with * and ? (*USDT)."""
    streams: types.Listed[types.StreamKind] = Field(default=["trade", "bookTicker", "ticker"])
    """Binance's own stream names, for each symbol: trade, kline_1m, depth20@100ms."""
    websocket_url: urls.WebSocketUrl = "wss://stream.binance.com:9443"
    """Host of the streams; wss://data-stream.binance.vision serves more regions."""
    rest_url: urls.RestUrl = "https://api.binance.com"
    """Host of the REST interface; https://data-api.binance.vision serves more regions."""
    compression: Literal["deflate", "none"] = "deflate"
    """Compression to ask for on the WebSocket: deflate saves traffic, none saves CPU time."""
    connect_timeout_s: Seconds = 10
    """Longest time a connection may take to open, in seconds."""
    ping_interval_s: Seconds = 30
    """Time between two of our pings, in seconds."""
    ping_timeout_s: Seconds = 20
    """Longest time to wait for a pong before the connection counts as dead, in seconds."""
    transport: Literal["websockets", "picows"] = "websockets"
    """Library that carries the WebSocket: picows (pip install "tickbridge[fast]") takes less CPU
    time, and needs compression: none and a ping_timeout_s not above ping_interval_s."""
    proxy: urls.Proxy = urls.SecretUrl("environment")
    """Proxy for WebSocket and REST: environment (HTTPS_PROXY and NO_PROXY, as other programs do),
    none, or http://user:password@host:port."""
    streams_per_connection: int = Field(default=200, ge=1, le=1024)
    """Most streams on one connection; Binance closes one that asks for more than 1024."""
    time_unit: Literal["millisecond", "microsecond"] = "millisecond"
    """Resolution of the exchange's times on the wire; events have microseconds either way."""
    first_message_timeout_s: Seconds = 60
    """Time after which a stream that has sent nothing yet is reported, in seconds."""
    reconnect_max_delay_s: Seconds = 30
    """Longest pause between two attempts to connect, in seconds."""

    redundancy: int = Field(default=1, ge=1, le=2)
    """Connections that carry each stream at the same time: with 2 the first arrival wins, and the
    loss of one is no interruption."""
    connection_max_age_s: float = Field(default=84_600, gt=0, le=85_800)
    """Age at which a connection is replaced, the new one first, in seconds; Binance ends it at
    86,400."""
    rotation_time: types.TimeOfDay | None = None
    """Time of the day, UTC, at which connections are replaced, beside their age: "04:00"."""

    @property
    def rotation_time_s(self) -> int | None:
        """The time of the day in seconds since midnight."""
        if self.rotation_time is None:
            return None
        hours, minutes = self.rotation_time.split(":")
        return int(hours) * 3600 + int(minutes) * 60

    @field_validator("rest_url")
    @classmethod
    def _of_one_exchange(cls, url: str, info: ValidationInfo) -> str:
        """Ids are an exchange's own: another one's trades under them would fill the holes."""
        here, streams = urls.exchange_of(url), urls.exchange_of(info.data.get("websocket_url", url))
        if here and streams and here != streams:
            raise WrongValue(
                f"is of {here}, and binance.websocket_url of {streams}",
                "name hosts of one exchange: missing trades are fetched there by their ids",
            )
        return url

    @field_validator("transport")
    @classmethod
    def _what_picows_cannot_do(cls, transport: str, info: ValidationInfo) -> str:
        if transport == "picows" and info.data.get("compression") == "deflate":
            raise WrongValue("cannot inflate", "set binance.compression: none")
        timeout_s = info.data.get("ping_timeout_s", 0)
        if transport == "picows" and timeout_s > info.data.get("ping_interval_s", timeout_s):
            raise WrongValue(
                "waits for a pong no longer than until the next ping",
                "lower binance.ping_timeout_s or raise binance.ping_interval_s",
            )
        return transport

    @field_validator("symbols")
    @classmethod
    def _something_to_do(cls, symbols: list[str], info: ValidationInfo) -> list[str]:
        if not symbols and info.data.get("extra_streams") == []:
            raise WrongValue(
                "names nothing to subscribe to, nor does binance.extra_streams",
                "name symbols: [BTCUSDT, ETHUSDT]",
            )
        return symbols

    @field_validator("streams")
    @classmethod
    def _streams_of_symbols(cls, streams: list[str], info: ValidationInfo) -> list[str]:
        if not streams and info.data.get("symbols"):
            raise WrongValue(
                "gives the symbols no streams", "name streams: [trade], or no binance.symbols"
            )
        return streams
