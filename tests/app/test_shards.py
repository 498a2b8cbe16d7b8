"""The shards of a bridge follow the roles that the group gives to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.app import shards as shards_module
from bridge.app.shard import Stop
from bridge.app.shards import Shards
from bridge.core.model.shard import ShardId
from bridge.core.policy.roles import Roles
from bridge.errors import Fenced
from bridge.monitoring.status import Status
from bridge.settings import Cluster
from bridge.sinks.kafka.owner import Role
from tests.support.journal import Journal

OWNS = {0: ""}
NOTHING = Roles(2)


class Bench:
    """The shards, with stand-ins that run until they are fenced."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.status = Status([])
        self.stop = Stop()
        # All that have run, and those that run.
        self.made: list[StandIn] = []
        subscriber: Any = SimpleNamespace(settings=SimpleNamespace(cluster=Cluster(shards=2)))
        rest: Any = None
        self.shards = Shards(tasks, subscriber, rest, self.status, None, self.stop)

    async def follow(self, roles: Roles, generation: int = 1) -> None:
        await self.shards.follow(roles, generation)
        await asyncio.sleep(0)

    async def own(self) -> None:
        """Let the bridge own a shard."""
        await self.follow(Roles(2, owner=OWNS))
        self.made[0].may_publish = True

    def running(self) -> list[str]:
        return [str(each.shard) for each in self.made if each.is_running]


class StandIn:
    """A shard that does nothing."""

    def __init__(self, bench: Bench, shard: ShardId, role: Role, *, was_fenced: bool) -> None:
        self.shard, self.role, self.was_fenced = shard, role, was_fenced
        self.may_publish = self.is_running = False
        self.status: Any = SimpleNamespace(sequencers=None)
        self._fenced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        bench.made.append(self)

    async def run(self, *_: object) -> None:
        self.is_running = True
        try:
            await self._fenced
        finally:
            self.is_running = False

    async def fence(self, *, is_refused: bool = False) -> None:
        self._fenced.set_exception(Fenced("another one", is_refused=is_refused))
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    @asynccontextmanager
    async def begin() -> AsyncIterator[Bench]:
        async with asyncio.TaskGroup() as tasks:
            bench = Bench(tasks)

            def make(shard: ShardId, *_: object, role: Role, was_fenced: bool) -> StandIn:
                return StandIn(bench, shard, role, was_fenced=was_fenced)

            monkeypatch.setattr(shards_module, "Shard", make)
            yield bench
            for each in bench.made:
                each.may_publish = False
            await bench.follow(NOTHING)

    return begin


async def test_the_shards_of_both_roles_run(begun: Callable[[], Any]) -> None:
    async with begun() as bench:
        await bench.follow(Roles(2, owner={0: "b"}, standby={1: "b"}), generation=7)
        assert bench.running() == ["1-of-2", "2-of-2"]
        first, second = bench.made
        assert first.role == Role("owner", "b", 7)
        assert second.role == Role("standby", "b", 7)
        first.may_publish = True
        assert ([*bench.shards.owned()], [*bench.shards.watched()]) == ([0], [1])


async def test_one_without_a_role_ends_if_it_stands_by(begun: Callable[[], Any]) -> None:
    async with begun() as bench:
        await bench.follow(Roles(2, standby=OWNS))
        await bench.follow(NOTHING)
        assert bench.running() == []
        assert bench.status.shards == []


async def test_one_without_a_role_that_it_owns_runs_until_the_next_owner_has_taken_over(
    begun: Callable[[], Any], journal: Journal
) -> None:
    async with begun() as bench:
        await bench.own()
        await bench.follow(NOTHING, generation=2)
        assert bench.running() == ["1-of-2"]
        assert bench.made[0].role == Role("none", "", 2)
        await bench.made[0].fence()
        assert bench.running() == []
        assert journal.named("handed_over")


async def test_one_that_was_taken_over_stands_by(
    begun: Callable[[], Any], journal: Journal
) -> None:
    async with begun() as bench:
        await bench.own()
        await bench.made[0].fence()
        assert bench.running() == ["1-of-2"]
        assert [each.was_fenced for each in bench.made] == [False, True]
        assert journal.named("taken_over")


async def test_one_that_may_not_wait_for_the_owner_is_an_error(begun: Callable[[], Any]) -> None:
    async def be_refused() -> None:
        async with begun() as bench:
            await bench.follow(Roles(2, owner=OWNS))
            await bench.made[0].fence(is_refused=True)

    with pytest.raises(ExceptionGroup) as caught:
        await be_refused()
    assert caught.group_contains(Fenced)


async def test_one_that_is_given_taken_and_given_at_one_moment_runs(
    begun: Callable[[], Any],
) -> None:
    async with begun() as bench:
        for roles in (Roles(2, standby=OWNS), NOTHING, Roles(2, owner=OWNS)):
            await bench.shards.follow(roles, 1)
        await asyncio.sleep(0)
        assert bench.running() == ["1-of-2"]
