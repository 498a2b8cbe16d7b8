"""Whose records in the position topic name an owner of a shard."""

import pytest
from msgspec.structs import replace

from bridge.core.model.shard import WHOLE, ShardId
from bridge.settings import Cluster, Kafka
from bridge.sinks.kafka.owner import (
    Owner,
    Owners,
    encode,
    fenced_key,
    owner_key,
    this_bridge,
    transactional_id_of,
)

TOPIC = "binance.spot.position"
US = this_bridge(Cluster())


class Bench:
    """What one shard knows of the owners."""

    def __init__(self, shard: ShardId = WHOLE) -> None:
        self.owners = Owners(Kafka(), TOPIC, shard)

    def see(self, shard: ShardId, epoch: int, **fields: str) -> str | None:
        owner = replace(US, producer_id=1, epoch=epoch, **fields)
        return self.owners.see(owner_key(self.id_of(shard)), encode(owner))

    def shut_out(self, by: ShardId, **epochs: tuple[ShardId, int]) -> None:
        fenced = {self.id_of(shard): (1, epoch) for shard, epoch in epochs.values()}
        self.owners.see(fenced_key(self.id_of(by)), encode(fenced))

    def present(self) -> dict[str, Owner]:
        return self.owners.present()

    @staticmethod
    def id_of(shard: ShardId) -> str:
        return transactional_id_of(Kafka(), TOPIC, shard)


def test_a_takeover_counts_if_the_shard_passes_to_a_bridge_of_another_name() -> None:
    first, second = (
        this_bridge(Cluster(instance_id=name)).after(None) for name in ("first", "second")
    )
    assert (first.name, first.takeovers) == ("first", 0)
    again = first.after(first)
    assert (again.takeovers, again.since >= first.since) == (0, True)
    assert [second.after(again).takeovers, first.after(second.after(again)).takeovers] == [1, 2]


def test_a_bridge_without_a_name_is_named_by_its_host_and_process() -> None:
    assert US.name == f"{US.host}/{US.process}"


def test_the_names_of_the_shards_are_in_their_transactional_ids() -> None:
    assert Bench.id_of(WHOLE) == f"tickbridge.{TOPIC}"
    assert Bench.id_of(ShardId(1, 3)) == f"tickbridge.{TOPIC}.2-of-3"
    own = Kafka(transactional_id="mine")
    assert transactional_id_of(own, TOPIC, ShardId(0, 2)) == "mine.1-of-2"
    assert transactional_id_of(Kafka(transactional_id=""), TOPIC, ShardId(0, 2)) == ""


@pytest.mark.parametrize("shard", [WHOLE, ShardId(1, 2)])
def test_a_shard_has_one_owner_the_one_that_opened_last(shard: ShardId) -> None:
    bench = Bench(shard)
    assert bench.present() == {}
    assert bench.see(shard, 2, host="new") == bench.id_of(shard)
    assert bench.see(shard, 1, host="old") is None
    assert [owner.host for owner in bench.present().values()] == ["new"]


def test_the_owner_of_another_shard_of_the_same_number_does_not_count() -> None:
    bench = Bench(ShardId(0, 2))
    assert bench.see(ShardId(1, 2), 1) is None
    assert bench.present() == {}


def test_owners_of_another_number_count_if_they_have_some_of_the_same_partitions() -> None:
    bench = Bench(ShardId(0, 4))
    assert bench.see(WHOLE, 1) == bench.id_of(WHOLE)
    assert bench.see(ShardId(0, 2), 1) == bench.id_of(ShardId(0, 2))
    assert bench.see(ShardId(1, 2), 1) is None
    assert bench.see(ShardId(2, 3), 1) == bench.id_of(ShardId(2, 3))
    assert len(bench.present()) == 3


def test_an_owner_that_was_shut_out_counts_again_after_it_has_opened_again() -> None:
    shard = ShardId(0, 2)
    bench = Bench(shard)
    bench.see(WHOLE, 4)
    bench.see(shard, 1)
    bench.shut_out(shard, whole=(WHOLE, 5))
    assert list(bench.present()) == [bench.id_of(shard)]
    assert bench.see(WHOLE, 4) is None
    assert bench.see(WHOLE, 6) == bench.id_of(WHOLE)
    assert len(bench.present()) == 2


def test_what_other_shards_have_shut_out_still_counts_here() -> None:
    bench = Bench(ShardId(0, 2))
    bench.see(WHOLE, 4)
    bench.shut_out(ShardId(1, 2), whole=(WHOLE, 5))
    assert list(bench.present()) == [bench.id_of(WHOLE)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, None),
        (b"trade:BTCUSDT", b"{}"),
        (owner_key("another.1-of-2"), encode(US)),
        (owner_key(f"tickbridge.{TOPIC}.5-of-2"), encode(US)),
        (owner_key(f"tickbridge.{TOPIC}"), b"no JSON"),
        (owner_key(f"tickbridge.{TOPIC}"), None),
        (b"owner:\xff", encode(US)),
    ],
)
def test_other_records_name_no_owner(key: bytes | None, value: bytes | None) -> None:
    owners = Owners(Kafka(), TOPIC, ShardId(0, 4))
    assert owners.see(key, value) is None
    assert owners.present() == {}
