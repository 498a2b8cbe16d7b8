"""The service: it builds everything, runs it in one task group, and drains it at the end.

On SIGTERM or SIGINT the bridge becomes unready, closes its connections, fetches what holds events
back, and drains the sinks until a deadline. A second signal stops the draining. Records that are
left then are counted, and the exit code reports them.
"""

import asyncio
import os
import platform
import signal
from collections.abc import Callable

import structlog

from bridge.app.group import Group
from bridge.app.ingestion import message_types
from bridge.app.reload import Reloader, Source
from bridge.app.shard import Stop, cancel
from bridge.app.shards import Shards
from bridge.app.subscriber import Subscriber
from bridge.binance.feed import Feed
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import is_pattern
from bridge.core.model.shard import WHOLE, ShardId
from bridge.core.policy.roles import Roles
from bridge.errors import UndeliveredRecords, first_of_ours
from bridge.monitoring.dashboard import Dashboard
from bridge.monitoring.loop_lag import lag_observed
from bridge.monitoring.server import serve
from bridge.monitoring.status import Status, version
from bridge.settings import Settings
from bridge.settings.environment import REVISION_VARIABLE
from bridge.sinks.kafka.owner import Role

# The exchange may need this long to answer after the start, before the log warns.
EXCHANGE_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


class Service:
    """One bridge. `source` reports when the settings have changed."""

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        _log_start(settings)
        self._settings = settings
        self._source = source
        self.status = Status(message_types(settings), cluster=settings.cluster)
        self._dashboard = Dashboard(self.status) if settings.http.dashboard else None
        self._stop = Stop()

    def stop(self) -> None:
        """Start to drain. Called again, stop draining."""
        self._stop.request()

    async def run(self, on_started: Callable[[int], None] = lambda _port: None) -> None:
        """Run until `stop`, or a signal. `on_started` gets the HTTP port.

        Raises SettingsError, FeedRefused or SinkRefused if the settings are wrong, Fenced if
        another bridge has taken over and this one does not stand by, and UndeliveredRecords if
        records are left at the end.
        """
        _handle_signals(self.stop)
        try:
            with lag_observed(self.status.lag):
                await self._run(on_started)
        except BaseExceptionGroup as errors:
            raise first_of_ours(errors) or errors from errors
        self._check_undelivered()

    async def _run(self, on_started: Callable[[int], None]) -> None:
        settings, status = self._settings, self.status
        async with (
            serve(settings.http, status, self._dashboard) as port,
            Rest(settings.binance, settings.repair.weight_share) as rest,
            asyncio.TaskGroup() as group,
        ):
            on_started(port)
            subscriber = Subscriber(settings, rest)
            status.rest, status.counts = rest, subscriber.counts
            status.subscription = lambda: subscriber.subscription
            helpers = [
                group.create_task(status.recent.run(), name="rates"),
                group.create_task(self._run_feed(subscriber), name="feed"),
            ]
            if dashboard := self._dashboard:
                helpers.append(group.create_task(dashboard.run(), name="dashboard"))
            shards = Shards(group, subscriber, rest, status, self._dashboard, self._stop)
            watchers = [
                group.create_task(self._warn_if_unreachable(subscriber), name="exchange check")
            ]
            if settings.cluster.has_group:
                status.is_joining = True
                member = Group(settings, shards.owned, shards.watched)
                helpers.append(group.create_task(member.run(), name="group"))
                watchers.append(
                    group.create_task(self._follow(member, shards, subscriber.feed), name="roles")
                )
            else:
                shards.start(WHOLE, Role())
            if self._source is not None:
                reloader = Reloader(settings, self._source, subscriber.set_streams, status.reloads)
                watchers.append(group.create_task(reloader.run(), name="settings"))
            await self._stop.requested.wait()
            log.info("draining", pending=self._pending())
            status.draining = True
            for task in watchers:
                await cancel(task)
            await shards.ended()
            for task in helpers:
                await cancel(task)

    async def _run_feed(self, subscriber: Subscriber) -> None:
        """Receive the streams, as soon as they are known."""
        async with asyncio.TaskGroup() as group:
            group.create_task(subscriber.run(), name="subscriber")
            await subscriber.found.wait()
            self.status.feed = subscriber.feed

    async def _follow(self, member: Group, shards: Shards, feed: Feed) -> None:
        """Let the shards follow the roles that the group gives to this bridge."""
        while True:
            await member.changed.wait()
            member.changed.clear()
            if roles := member.roles:
                log.info("roles", **_names(roles), generation=member.generation)
                feed.share_limits(roles.bridges)
                await shards.follow(roles, member.generation)
                self.status.is_joining = False

    async def _warn_if_unreachable(self, subscriber: Subscriber) -> None:
        """Log once if the exchange has not answered since the start."""
        await asyncio.sleep(EXCHANGE_TIMEOUT_S)
        await subscriber.found.wait()
        if not subscriber.has_reached_exchange:
            log.warning(
                "exchange_unreachable",
                url=self._settings.binance.websocket_url,
                waited_s=EXCHANGE_TIMEOUT_S,
                remedy="check the network and binance.proxy; to try the bridge without internet, "
                "run `docker compose --profile simulator up` or `tickbridge demo`",
            )

    def _pending(self) -> dict[str, int]:
        return {sink.name: sink.pending().total() for sink in self.status.sinks}

    def _check_undelivered(self) -> None:
        pending, kafka = self._pending(), self.status.kafka
        if on_disk := kafka.records_on_disk:
            pending[kafka.name] = max(0, pending[kafka.name] - on_disk)
            log.info("records_kept", count=on_disk, data_dir=str(self._settings.data_dir))
        if any(pending.values()):
            log.error("records_undelivered", **pending)
            raise UndeliveredRecords(sum(pending.values()))
        log.info("stopped")


def _log_start(settings: Settings) -> None:
    """Log which build starts with which settings: the first line of each log."""
    binance, kafka = settings.binance, settings.kafka
    patterns = [symbol for symbol in binance.symbols if is_pattern(symbol)]
    log.info(
        "starting",
        version=version("tickbridge"),
        revision=os.environ.get(REVISION_VARIABLE, "unknown"),
        python=platform.python_version(),
        symbols=len(binance.symbols) - len(patterns),
        patterns=patterns,
        streams=binance.streams,
        extra_streams=len(binance.extra_streams),
        redundancy=binance.redundancy,
        kafka=kafka.bootstrap_servers,
        topic=kafka.topic,
        redis=settings.redis.url.without_user(),
        data_dir=str(settings.data_dir) if settings.data_dir else None,
    )


def _names(roles: Roles) -> dict[str, list[str]]:
    """Return the names of the shards in each role."""
    owns, stands_by = (
        [str(ShardId(number, roles.shards)) for number in shards]
        for shards in (roles.owner, roles.standby)
    )
    return {"owner": owns, "standby": stands_by}


def _handle_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
