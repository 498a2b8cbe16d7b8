"""The record with which a bridge says that it stands by for a shard.

It lies in the position topic, for `tickbridge status --cluster`. No bridge reads it.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from bridge import settings
from bridge.brokers.kafka_client import FAILURES, failure
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.retry import Backoff, forever
from bridge.sinks.kafka.owner import STANDBY_PREFIX
from bridge.sinks.kafka.producer import discard, open_writer

INTERVAL_S = 2.0
MAX_DELAY_S = 60.0

log = structlog.get_logger(__name__)


class Standby(msgspec.Struct, frozen=True):
    """A bridge that stands by since `since`, in microseconds. With `is_cut` it does not receive all
    streams. Its last frame is `lag_s` old.
    """

    name: str
    since: int
    is_cut: bool
    lag_s: float


encode = msgspec.json.Encoder().encode
decode_standby = msgspec.json.Decoder(Standby).decode


class StandbyBeat:
    """Writes the record of a shard every INTERVAL_S. If that fails, only the status lacks it.

    `look` returns what to write; None while the topic is not known to exist.
    """

    def __init__(
        self,
        options: settings.Kafka,
        topic: str,
        transactional_id: str,
        look: Callable[[], Standby | None],
    ) -> None:
        self._options, self._topic, self._look = options, topic, look
        self._key = STANDBY_PREFIX + transactional_id.encode()

    async def run(self) -> None:
        """Write until cancelled."""
        backoff = Backoff(MAX_DELAY_S)
        failures = (SinkUnavailable, SinkRefused)
        async for attempt in forever(backoff, *failures, on_retry=_on_retry):
            with attempt:
                await self._write(backoff)

    async def _write(self, backoff: Backoff) -> None:
        """Write until Kafka fails. Raises SinkUnavailable or SinkRefused then."""
        producer = await open_writer(self._options)
        try:
            while True:
                if standby := self._look():
                    async with asyncio.timeout(self._options.request_timeout_ms / 1000):
                        await producer.send_and_wait(self._topic, encode(standby), self._key)
                    backoff.worked()
                await asyncio.sleep(INTERVAL_S)
        except FAILURES as error:
            raise failure(error) from error
        finally:
            await discard(producer)


def _on_retry(error: Exception, delay_s: float) -> None:
    log.debug("standby_not_written", error=str(error), retry_in_s=round(delay_s, 2))
