"""The coordinator of consumer groups in memory, and a consumer that is a member.

A change of the members starts a division. All members join it, or are left out after a timeout; one
with a name of its own is left out only after its session. The first that has joined divides.
Sources: KIP-62, KIP-345.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka import errors as kafka_errors

from bridge.brokers.kafka_group import HEARTBEAT_MS, REBALANCE_MS
from tests.simulation.broker import Broker
from tests.simulation.kafka_clients import RETRY_BACKOFF_S, Consumer, Fetched
from tests.simulation.loop import within

REBALANCE_S = REBALANCE_MS / 1000
HEARTBEAT_S = HEARTBEAT_MS / 1000


class _Seat:
    """What the coordinator knows of a member."""

    def __init__(self, member: "GroupConsumer") -> None:
        self.member = member
        self.metadata: Any = None
        self.has_joined = False
        self.heard_s = 0.0
        self.assignment: Any = None


class Coordinator:
    """The coordinator of one group."""

    def __init__(self) -> None:
        self.generation = 0
        # Whether the broker that has it does not answer.
        self.is_away = False
        self._members = 0
        self._seats: dict[str, _Seat] = {}
        self._divided = asyncio.Event()
        self._division: asyncio.Task[None] | None = None

    async def join(self, member: "GroupConsumer", metadata: Any) -> tuple[str, int, Any]:
        """Return the id of the member, the generation, and its assignment. Raises KafkaError."""
        self._check()
        before = self._seat_of_name(member)
        seat = self._seats.get(member.member_id) or self._new_seat(member)
        seat.metadata, seat.heard_s = metadata, _now_s()
        if before and self._division is None:
            # Its assignment is still there, and nobody else notices that it was away.
            seat.assignment = before.assignment
            return member.member_id, self.generation, seat.assignment
        seat.has_joined = True
        self._divide_again()
        divided = self._divided
        await divided.wait()
        return member.member_id, self.generation, seat.assignment

    def beat(self, member: "GroupConsumer") -> bool:
        """Take a heartbeat. Return whether the member may go on as it is. Raises KafkaError."""
        self._check()
        if (seat := self._seats.get(member.member_id)) is None:
            return False
        seat.heard_s = _now_s()
        self._expire()
        return self._division is None

    def leave(self, member: "GroupConsumer") -> None:
        """Take a member's word that it ends."""
        if member.member_id in self._seats and not self.is_away:
            del self._seats[member.member_id]
            self._divide_again()

    def _check(self) -> None:
        if self.is_away:
            raise kafka_errors.GroupCoordinatorNotAvailableError

    def _seat_of_name(self, member: "GroupConsumer") -> _Seat | None:
        """Return the seat of an earlier process of the same name."""
        if member.name is None or member.member_id in self._seats:
            return None
        seats = (seat for seat in self._seats.values() if seat.member.name == member.name)
        return next(seats, None)

    def _new_seat(self, member: "GroupConsumer") -> _Seat:
        self._members += 1
        if old := self._seat_of_name(member):
            del self._seats[old.member.member_id]
        member.member_id = f"member-{self._members}"
        seat = self._seats[member.member_id] = _Seat(member)
        return seat

    def _expire(self) -> None:
        """Remove the members whose session has ended."""
        for each, seat in list(self._seats.items()):
            if _now_s() - seat.heard_s > seat.member.session_s:
                del self._seats[each]
                self._divide_again()

    def _divide_again(self) -> None:
        if self._division is None:
            self._division = asyncio.create_task(self._divide())

    def _awaits_some(self) -> bool:
        return not all(seat.has_joined for seat in self._seats.values())

    async def _divide(self) -> None:
        """Wait for all members, and let the first one divide."""
        end_s = _now_s() + REBALANCE_S
        while _now_s() < end_s and self._awaits_some():  # noqa: ASYNC110 - as the coordinator
            await asyncio.sleep(0.05)
        self._expire()
        self._seats = {
            each: seat
            for each, seat in self._seats.items()
            if seat.has_joined or seat.member.name is not None
        }
        self.generation += 1
        joined = [seat for seat in self._seats.values() if seat.has_joined]
        if joined:
            said = {each: seat.metadata for each, seat in self._seats.items()}
            for each, share in joined[0].member.assignor.assign(None, said).items():
                self._seats[each].assignment = share
        for seat in self._seats.values():
            seat.has_joined = False
        self._division, divided, self._divided = None, self._divided, asyncio.Event()
        divided.set()


class GroupConsumer(Consumer):
    """aiokafka's consumer as a member of a group without partitions."""

    def __init__(self, broker: Broker, coordinator: Coordinator, **options: Any) -> None:
        super().__init__(broker, **options)
        self.member_id = ""
        self.name: str | None = options["group_instance_id"]
        self.session_s = options["session_timeout_ms"] / 1000
        (self.assignor,) = options["partition_assignment_strategy"]
        self._group = coordinator
        self._must_join = asyncio.Event()
        self._coordinator = SimpleNamespace(generation=-1, request_rejoin=self._must_join.set)
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, *, pattern: str) -> None:
        assert pattern
        self._task = asyncio.create_task(self._be_member())

    async def getmany(self, *, timeout_ms: int) -> Fetched:
        await asyncio.sleep(timeout_ms / 1000)
        return {}

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self.process.is_alive and self.name is None and not self.process.has_no_kafka:
            self._group.leave(self)

    async def _be_member(self) -> None:
        while True:
            try:
                await self._join()
                while await self._beat():
                    pass
            except kafka_errors.KafkaError:
                await asyncio.sleep(RETRY_BACKOFF_S)

    async def _join(self) -> None:
        self._must_join.clear()
        await self.ask()
        metadata = self.assignor.metadata([])
        self.member_id, generation, assignment = await self._group.join(self, metadata)
        await self.ask()
        self._coordinator.generation = generation
        if assignment is not None:
            self.assignor.on_assignment(assignment)

    async def _beat(self) -> bool:
        """Send a heartbeat. Return whether the member may go on as it is."""
        await within(HEARTBEAT_S, self._must_join.wait())
        await self.ask()
        return self._group.beat(self) and not self._must_join.is_set()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
