"""Members of a group that share out something other than partitions, on a real Kafka."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CoordinatorNotAvailableError

from bridge.app import group as group_module
from bridge.app.group import Group
from bridge.brokers.kafka_consumer import partitions_of_topics
from bridge.brokers.kafka_group import GroupMember
from bridge.errors import SinkRefused
from bridge.settings import Settings, load_settings
from tests.support.brokers import Choice, Kafka
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(60)


class Desk:
    """A member that says its name. As the leader it tells each who the members are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken: list[tuple[bytes, int]] = []

    def describe(self) -> bytes:
        return self.name.encode()

    def share_out(self, members: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return dict.fromkeys(members, b" ".join(sorted(members.values())))

    def take(self, share: bytes, generation: int) -> None:
        self.taken.append((share, generation))

    async def took(self, share: str) -> int:
        """Wait until it has taken this. Return the generation."""
        while not self.taken or self.taken[-1][0] != share.encode():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
        return self.taken[-1][1]


class Table:
    """A group, and its members."""

    def __init__(self, settings: Settings, group: str) -> None:
        self.settings, self.group = settings, group

    @asynccontextmanager
    async def joined(self, desk: Desk, name: str | None = None) -> AsyncIterator[GroupMember]:
        async with GroupMember(self.settings.kafka, self.group, name, desk) as member:
            yield member


@pytest.fixture
def table(brokers: Choice, kafka: Kafka, unique: str) -> Table:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka with groups; {brokers}")
    overrides = {
        "binance": {"symbols": ["BTCUSDT"]},
        "kafka": {"bootstrap_servers": kafka.bootstrap_servers},
        "cluster": {"shards": 2, "group": unique, "instance_id": "one"},
    }
    return Table(load_settings(environment={}, overrides=overrides), unique)


async def test_each_member_learns_what_the_leader_has_made_of_what_all_say(table: Table) -> None:
    first, second = Desk("first"), Desk("second")
    async with table.joined(first):
        alone = await first.took("first")
        async with table.joined(second):
            both = await first.took("first second")
            assert await second.took("first second") == both > alone
        assert await first.took("first") > both


async def test_a_member_that_comes_back_under_its_name_changes_nothing(table: Table) -> None:
    first, second, again = Desk("first"), Desk("second"), Desk("again")
    async with table.joined(first, "a"):
        async with table.joined(second, "b"):
            both = await first.took("first second")
        async with table.joined(again, "b"):
            assert await again.took("first second") == both
        assert first.taken[-1][1] == both


async def test_a_member_may_join_again_to_say_something_else(table: Table) -> None:
    first, second = Desk("first"), Desk("second")
    async with table.joined(first, "a") as member, table.joined(second, "b"):
        await second.took("first second")
        first.name = "changed"
        member.rejoin()
        assert await second.took("changed second") == await first.took("changed second")


async def test_a_member_creates_no_topic(table: Table) -> None:
    before = await partitions_of_topics(table.settings.kafka)
    desk = Desk("first")
    async with table.joined(desk):
        await desk.took("first")
    assert await partitions_of_topics(table.settings.kafka) == before


async def test_a_group_of_consumers_is_an_error_with_its_remedy(table: Table, kafka: Kafka) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=table.group)
    consumer.subscribe(pattern=".*")
    await consumer.start()
    try:
        while not consumer._coordinator.generation > 0:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.05)
        async with table.joined(Desk("first")) as member:
            with pytest.raises(SinkRefused, match=f"{table.group}.*no bridges; give cluster.group"):
                await _wait_often(member)
    finally:
        await consumer.stop()


async def test_a_bridge_with_the_roles_of_another_number_of_shards_joins_again(
    table: Table,
) -> None:
    """An earlier process of its name had that number, and the group has not noticed."""
    earlier = table.settings.model_copy(
        update={"cluster": table.settings.cluster.model_copy(update={"shards": 1})}
    )
    async with running(earlier) as before:
        assert before.roles is not None
        assert list(before.roles.owner) == [0]
    async with running(table.settings) as now:
        assert now.roles is not None
        assert list(now.roles.owner) == [0, 1]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_group_that_gives_no_shards_is_told(
    table: Table, journal: Journal, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    """The leader does not understand this bridge, or no broker coordinates the group."""

    async def has_none(*_: object) -> None:
        raise CoordinatorNotAvailableError

    monkeypatch.setattr(group_module, "JOIN_TIMEOUT_S", 0.0)
    if answers:
        monkeypatch.setattr(Group, "take", lambda *_: None)
    else:
        monkeypatch.setattr(AIOKafkaClient, "coordinator_lookup", has_none)
    group = Group(table.settings, tuple, tuple)
    task = asyncio.create_task(group.run())
    (warning,) = await journal.until("group_waiting")
    assert warning["group"] == table.group
    task.cancel()
    await asyncio.wait((task,))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Group]:
    """Run a member of the group, from its first roles on."""
    group = Group(settings, tuple, tuple)
    task = asyncio.create_task(group.run())
    await group.changed.wait()
    yield group
    task.cancel()
    await asyncio.wait((task,))


async def _wait_often(member: GroupMember) -> None:
    while True:
        await member.wait(1.0)
