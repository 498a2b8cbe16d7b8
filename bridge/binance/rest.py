"""The exchange's REST interface: so far, which symbols it lists."""

from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from bridge import settings
from bridge.binance.failures import from_exception, from_status
from bridge.errors import FeedUnavailable


class _Symbol(msgspec.Struct):
    symbol: str
    status: str


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


_decode_exchange_info = msgspec.json.Decoder(_ExchangeInfo).decode


class Rest:
    """One client session, used as an async context manager."""

    def __init__(self, options: settings.Binance) -> None:
        proxy = options.proxy.get_secret_value()
        self._url = options.rest_url
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=options.connect_timeout_s),
            trust_env=proxy == "environment",
            proxy=None if proxy in {"environment", "none"} else proxy,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def symbols(self) -> dict[str, str]:
        """Each symbol the exchange lists, and its status (TRADING, HALT, BREAK, ...).

        Asked for as a whole (weight 20): one unknown name in a shorter list is an error for all.
        Raises FeedRefused or FeedUnavailable.
        """
        body = await self._get("/api/v3/exchangeInfo", showPermissionSets="false")
        try:
            return {s.symbol: s.status for s in _decode_exchange_info(body).symbols}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FeedUnavailable(f"{self._url} answers no exchangeInfo: {error}") from error

    async def _get(self, path: str, **parameters: str) -> bytes:
        try:
            async with self._session.get(self._url + path, params=parameters) as response:
                if response.status != HTTPStatus.OK:
                    retry_after = response.headers.get("Retry-After")
                    raise from_status(response.status, retry_after, self._url)
                return await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise from_exception(error, self._url) from error
