"""Runs the shards that the group gives to this bridge; without a group there is one shard."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from bridge.app.shard import Shard, Stop, cancel
from bridge.app.subscriber import Subscriber
from bridge.binance.rest import Rest
from bridge.core.model.shard import WHOLE, ShardId
from bridge.core.policy.roles import Roles
from bridge.errors import Fenced
from bridge.monitoring.dashboard import Dashboard
from bridge.monitoring.status import Status
from bridge.sinks.kafka.owner import Role, RoleKind

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Running:
    """A shard that runs here, and what the group wants of this bridge for it."""

    role: Role
    shard: Shard | None = None
    task: asyncio.Task[None] = field(init=False)

    @property
    def may_publish(self) -> bool:
        return self.shard is not None and self.shard.may_publish


class Shards:
    """The shards that run here, each in a task of `tasks`."""

    def __init__(  # noqa: PLR0913, PLR0917 (what a shard needs)
        self,
        tasks: asyncio.TaskGroup,
        subscriber: Subscriber,
        rest: Rest,
        status: Status,
        dashboard: Dashboard | None,
        stop: Stop,
    ) -> None:
        self._tasks, self._subscriber, self._rest = tasks, subscriber, rest
        self._status, self._dashboard, self._stop = status, dashboard, stop
        self._running: dict[ShardId, _Running] = {}

    def owned(self) -> Iterator[int]:
        """Yield the numbers of the shards that this bridge owns."""
        return (shard.number for shard, each in self._running.items() if each.may_publish)

    def watched(self) -> Iterator[int]:
        """Yield the numbers of the shards that this bridge stands by for."""
        return (shard.number for shard, each in self._running.items() if not each.may_publish)

    def start(self, shard_id: ShardId, role: Role) -> None:
        """Run a shard, until the bridge stops or loses it."""
        running = self._running[shard_id] = _Running(role)
        running.task = self._tasks.create_task(
            self._run(shard_id, running), name=f"shard {shard_id}"
        )

    async def follow(self, roles: Roles, generation: int) -> None:
        """Run the shards of these roles, and end the others. One that this bridge owns it publishes
        until the next owner has taken over.
        """
        shares: dict[RoleKind, dict[int, str]] = {"owner": roles.owner, "standby": roles.standby}
        wanted = {
            ShardId(number, roles.shards): Role(kind, other, generation)
            for kind, shards in shares.items()
            for number, other in shards.items()
        }
        for shard_id, running in list(self._running.items()):
            running.role.become(wanted.pop(shard_id, Role("none", "", generation)))
            if running.role.kind == "none" and not running.may_publish:
                await cancel(running.task)
                self._running.pop(shard_id, None)  # it may not have begun
        for shard_id, role in wanted.items():
            self.start(shard_id, role)

    async def ended(self) -> None:
        """Return when all shards have ended."""
        if tasks := [running.task for running in self._running.values()]:
            await asyncio.wait(tasks)

    async def _run(self, shard_id: ShardId, running: _Running) -> None:
        """Run a shard. If another bridge takes it over, begin again and stand by, unless the group
        has no role for this bridge any more.
        """
        was_fenced = False
        if shard_id != WHOLE:
            structlog.contextvars.bind_contextvars(shard=str(shard_id))
        try:
            while True:
                try:
                    return await self._run_once(shard_id, running, was_fenced=was_fenced)
                except Fenced as error:
                    if error.is_refused or not self._subscriber.settings.cluster.has_group:
                        raise
                    if running.role.kind == "owner":
                        self._status.fenced["taken_over"] += 1
                        log.warning("taken_over", owner=error.owner)
                    else:
                        self._status.fenced["handed_over"] += 1
                        log.info("handed_over", owner=error.owner)
                    if running.role.kind == "none" or self._stop.requested.is_set():
                        return None
                    was_fenced = True
        finally:
            self._running.pop(shard_id, None)

    async def _run_once(self, shard_id: ShardId, running: _Running, *, was_fenced: bool) -> None:
        """Run a shard until the bridge stops. Raises Fenced if another bridge takes it over."""
        status = self._status
        running.shard = shard = Shard(
            shard_id,
            self._subscriber.settings,
            status,
            self._dashboard,
            role=running.role,
            was_fenced=was_fenced,
        )
        status.shards.append(shard.status)
        try:
            await shard.run(self._subscriber, self._rest, self._stop)
        except (Fenced, asyncio.CancelledError):
            status.remove(shard.status)
            raise
