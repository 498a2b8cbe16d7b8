"""One run of the demo, from the brokers to the summary."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress

from bridge.app.service import Service
from bridge.client import LatestPrices, RedisFeed
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.subscription import is_pattern
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.errors import UndeliveredRecords
from bridge.monitoring import logs
from bridge.retry import check_cancelled
from bridge.settings import Settings
from bridge.telemetry import SinkCounts
from bridge.tools.demo.figures import Meter, accounts
from bridge.tools.demo.introduction import Addresses, introduce
from bridge.tools.demo.kafka_check import count_records
from bridge.tools.demo.latency import quantiles
from bridge.tools.demo.listener import Listener
from bridge.tools.demo.options import DEFAULT_SYMBOLS, DemoOptions, with_brokers
from bridge.tools.demo.source import Exchange, open_exchange
from bridge.tools.demo.summary import DemoFailed, Summary, Topic, print_summary
from bridge.tools.demo.view import View, choose_view
from bridge.tools.embedded import LOOPBACK, EmbeddedKafka, EmbeddedRedis


async def run_demo(options: DemoOptions) -> None:
    """Run the demo until `options.seconds` have passed, or SIGINT or SIGTERM arrives.

    Raises DemoFailed if anything was lost or not delivered; MissingExtra if a library of the
    embedded brokers is not installed; SettingsError; CaptureError; FeedRefused if a live exchange
    answers the probe and then refuses the feed.
    """
    began_s = time.monotonic()
    view = choose_view(plain=options.plain)
    async with AsyncExitStack() as stack:
        # They block the event loop for a twentieth of a second, before anything else runs in it.
        kafka = stack.enter_context(EmbeddedKafka())
        redis = stack.enter_context(EmbeddedRedis())
        with view:
            exchange = await stack.enter_async_context(open_exchange(options, view.wait_for))
            settings = with_brokers(exchange.loaded, exchange.binance, kafka, redis)
            logs.configure(settings.log)
            demo = _Demo(settings, exchange, view, redis.kind)
            await demo.run(options.seconds)
        summary = await demo.summary(began_s)
    print_summary(view.console, summary)
    if failures := summary.failures():
        raise DemoFailed("; ".join(failures))


class _Demo:
    """A bridge, its consumers and its view."""

    def __init__(self, settings: Settings, exchange: Exchange, view: View, redis_kind: str) -> None:
        self._settings = settings
        self._exchange = exchange
        self._view = view
        self._redis_kind = redis_kind
        self._service = Service(settings)
        self._listener = Listener()
        self._prices = LatestPrices(settings.redis)
        self._meter = Meter(self._service, self._listener, self._prices)
        self._started = asyncio.Event()
        self._duration_s = 0.0

    async def run(self, seconds: float | None) -> None:
        """Run the bridge until it stops, then wait for the last messages of the subscriber."""
        message_types = self._service.status.message_types
        async with (
            RedisFeed(self._settings.redis, message_types) as reader,
            self._prices,
            asyncio.TaskGroup() as group,
        ):
            listening = group.create_task(self._listener.listen(reader), name="listener")
            showing = group.create_task(self._show(), name="view")
            await self._serve(seconds)
            showing.cancel()
            await self._listener.catch_up(self._counts("redis").published.total())
            listening.cancel()

    async def _serve(self, seconds: float | None) -> None:
        """Run the service. UndeliveredRecords is ignored: the accounts show those records."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        def on_started(port: int) -> None:
            self._introduce(port)
            self._started.set()
            if seconds is not None:
                loop.call_later(seconds, self._end)

        with suppress(UndeliveredRecords):
            await self._service.run(on_started)
        self._duration_s = loop.time() - began_s

    def _end(self) -> None:
        if not self._service.status.draining:  # a second stop would skip the drain
            self._service.stop()

    async def _show(self) -> None:
        await self._started.wait()
        while True:
            await asyncio.sleep(self._view.refresh_s)
            self._view.show(await self._meter.figures())
            check_cancelled()

    def _introduce(self, port: int) -> None:
        (kafka,) = self._settings.kafka.bootstrap_servers
        redis = self._settings.redis.url.get_secret_value()
        addresses = Addresses(kafka, redis, self._redis_kind, f"http://{LOOPBACK}:{port}")
        message_types = self._service.status.message_types
        kind = "trade" if "trade" in message_types else message_types[0]
        introduce(self._view.console, self._exchange, addresses, self._any_symbol(), kind)

    def _any_symbol(self) -> str:
        binance = self._settings.binance
        named = [symbol for symbol in binance.symbols if not is_pattern(symbol)]
        streamed = [parse_stream(name).symbol for name in binance.extra_streams]
        return next(filter(None, (*named, *streamed)), DEFAULT_SYMBOLS[0])

    async def summary(self, began_s: float) -> Summary:
        """Return the summary of the run. `began_s` is the monotonic start time of the demo.

        Raises SinkUnavailable if Kafka does not answer.
        """
        first_s = self._listener.first_s
        status = self._service.status
        return Summary(
            source=self._exchange.title,
            duration_s=self._duration_s,
            first_message_s=None if first_s is None else first_s - began_s,
            received=dict(status.counts.received),
            most_in_a_second=self._listener.most_in_a_second,
            accounts=accounts(self._service),
            latencies={
                "kafka": quantiles(self._meter.kafka_latency.fine),
                "redis": quantiles(self._listener.latency),
            },
            topics=await self._topics(),
            heard=self._listener.count,
            reconnects=status.counts.reconnects.total(),
        )

    async def _topics(self) -> list[Topic]:
        """Return the expected and actual record counts of each topic that is not empty."""
        kafka, message_types = self._settings.kafka, self._service.status.message_types
        names = {kind: topic_name(kafka.topic, SPOT, kind) for kind in message_types}
        records = await count_records(kafka, list(names.values()))
        published = self._counts("kafka").published
        topics = [Topic(name, published[kind], records[name]) for kind, name in names.items()]
        return [topic for topic in topics if topic.published or topic.records]

    def _counts(self, sink_name: str) -> SinkCounts:
        return next(sink.counts for sink in self._service.status.sinks if sink.name == sink_name)
