"""Sends requests to the exchange's REST interface.

Every request takes its weight from our share of the budget, which the answers report. While the
exchange refuses requests, none is sent.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import msgspec
import structlog

from bridge import settings
from bridge.binance.failures import from_exception, from_status, refused_wait_s
from bridge.binance.proxy import proxy_of
from bridge.binance.rate_limit import QuietPeriod
from bridge.core.binance.decode import payload_text
from bridge.core.binance.weight_budget import WeightBudget
from bridge.core.model.unreadable import UNREADABLE
from bridge.errors import FeedUnavailable, InvalidFrame, describe, shorten

# From the exchange's documents, "Rate limits"; `exchangeInfo` may correct it.
WEIGHT_PER_MINUTE = 6000
# Several times the largest answer: `exchangeInfo` of all symbols. A value of three bytes takes 75
# bytes in memory, so the values are bounded too. They are counted by their commas.
MAX_ANSWER_BYTES = 16 * 2**20
MAX_ANSWER_VALUES = 1_000_000
_USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
_MAX_DIGITS = 9

T = TypeVar("T")

log = structlog.get_logger(__name__)


class RestClient:
    """One client session. It and its methods raise FeedRefused or FeedUnavailable.

    `unreadable_rows` counts the rows of answers that were left out.
    """

    def __init__(self, options: settings.Binance, weight_share: float) -> None:
        self.budget = WeightBudget(WEIGHT_PER_MINUTE, weight_share)
        self.url = options.rest_url
        self.unreadable_rows = 0
        self._quiet = QuietPeriod()
        # Since the last answer that was not a refusal.
        self._refusals = 0
        in_microseconds = options.time_unit == "microsecond"
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=options.connect_timeout_s),
            proxy=proxy_of(options, options.rest_url),
            headers={"X-MBX-TIME-UNIT": "MICROSECOND"} if in_microseconds else {},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(
        self,
        path: str,
        weight: int,
        decode: Callable[[bytes], T],
        parameters: Mapping[str, str] | None = None,
    ) -> T:
        """Return the decoded answer to a request."""
        body = await self._get(path, weight, parameters or {})
        if body.count(b",") >= MAX_ANSWER_VALUES:
            raise FeedUnavailable(
                f"{self.url}{path} sends more than {MAX_ANSWER_VALUES} values; check "
                "binance.rest_url"
            )
        try:
            return decode(body)
        except UNREADABLE as error:
            raise FeedUnavailable(
                f"{self.url}{path} sent an answer that cannot be read: {describe(error)}"
            ) from error

    def readable(
        self, path: str, rows: Iterable[msgspec.Raw], read: Callable[[msgspec.Raw], T]
    ) -> list[T]:
        """Return the result of `read` for each row. Unreadable rows are left out, counted and
        logged.
        """
        found: list[T] = []
        errors: list[str] = []
        for row in rows:
            try:
                found.append(read(row))
            except (*UNREADABLE, InvalidFrame) as error:
                errors.append(f"{describe(error)}: {shorten(payload_text(bytes(row)))}")
        if errors:
            self.unreadable_rows += len(errors)
            log.warning("rest_rows_unreadable", path=path, rows=len(errors), error=errors[0])
        return found

    async def _get(self, path: str, weight: int, parameters: Mapping[str, str]) -> bytes:
        await self._turn(weight)
        try:
            async with self._session.get(self.url + path, params=parameters) as response:
                self.budget.report(_used_weight(response.headers), time.time())
                if response.status != HTTPStatus.OK:
                    retry_after = response.headers.get("Retry-After")
                    raise from_status(response.status, retry_after, self.url)
                self._refusals = 0
                return await self._read(path, response.content)
        except (aiohttp.ClientError, OSError) as error:
            raise from_exception(error, self.url) from error
        except FeedUnavailable as error:
            self._keep_quiet(error)
            raise

    async def _read(self, path: str, content: aiohttp.StreamReader) -> bytes:
        """Return an answer. aiohttp inflates a compressed one in small pieces."""
        body = bytearray()
        async for piece in content.iter_any():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise FeedUnavailable(
                    f"{self.url}{path} sends more than {MAX_ANSWER_BYTES} bytes; check "
                    "binance.rest_url"
                )
        return bytes(body)

    def _keep_quiet(self, error: FeedUnavailable) -> None:
        """Let no request be sent for a while if the exchange has refused this one.

        Requests that were under way when a refusal came are not counted as further refusals.
        """
        left_s, quiet_s = self._quiet.left_s(), 0.0
        if error.cause == "rate_limited":
            quiet_s = error.retry_after_s or 0.0
        elif error.cause == "refused" and not left_s:
            self._refusals += 1
            quiet_s = refused_wait_s(self._refusals)
        self._quiet.extend(quiet_s)
        if quiet_s > left_s:
            log.warning("rest_refused", error=str(error), quiet_s=round(quiet_s, 1))

    async def _turn(self, weight: int) -> None:
        """Wait until a request is allowed and its weight fits. Another task may take the weight
        first.
        """
        await self._quiet.over()
        while (delay_s := self.budget.reserve(weight, time.time())) > 0:
            await asyncio.sleep(delay_s)
            await self._quiet.over()


def _used_weight(headers: Mapping[str, str]) -> int:
    """Return the used weight that an answer reports; 0 if it reports none that makes sense."""
    used = headers.get(_USED_WEIGHT, "")
    return int(used) if used.isdecimal() and len(used) <= _MAX_DIGITS else 0
