"""Shards: each partition, and so each symbol, belongs to one of them."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.brokers.kafka_client import has_symbol, partition_of_key
from bridge.core.model.shard import WHOLE, ShardId, parse_shard

counts = st.integers(1, 12)
shards = counts.flatmap(lambda n: st.builds(ShardId, st.integers(0, n - 1), st.just(n)))


@given(counts, st.integers(0, 200))
def test_each_partition_belongs_to_one_shard(count: int, partition: int) -> None:
    assert sum(ShardId(number, count).has(partition) for number in range(count)) == 1


@given(shards, st.integers(1, 8), st.text("ABCDUSTX币安", min_size=1))
def test_a_symbol_belongs_to_the_shard_of_its_partition_in_every_topic(
    shard: ShardId, multiple: int, symbol: str
) -> None:
    partition = partition_of_key(symbol.encode(), list(range(shard.count * multiple)))
    assert has_symbol(shard, symbol) == shard.has(partition)


@given(shards, shards)
def test_two_shards_overlap_if_a_partition_may_belong_to_both(one: ShardId, other: ShardId) -> None:
    both = [p for p in range(one.count * other.count) if one.has(p) and other.has(p)]
    assert one.overlaps(other) == other.overlaps(one) == bool(both)


@given(shards)
def test_a_shard_has_a_name_that_is_read_back(shard: ShardId) -> None:
    assert parse_shard(str(shard)) == shard
    assert shard.overlaps(WHOLE)


@given(
    st.sampled_from(["", "0-of-2", "3-of-2", "1-of-0", "1-of-2x", "1of2", "one-of-2", "-1-of-2"])
)
def test_other_texts_are_no_names(text: str) -> None:
    assert parse_shard(text) is None
