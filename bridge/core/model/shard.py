"""A shard: the partitions of each topic, and so the symbols, that one owner publishes."""

import re
from math import gcd

import msgspec

_NAME = re.compile(r"([1-9]\d{0,3})-of-([1-9]\d{0,3})")


class ShardId(msgspec.Struct, frozen=True):
    """A shard, by its number from 0 on, and the number of shards."""

    number: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number + 1}-of-{self.count}"

    def has(self, partition: int) -> bool:
        """Return whether a partition belongs to this shard. The number of partitions of its topic
        is a multiple of the number of shards.
        """
        return partition % self.count == self.number

    def overlaps(self, other: "ShardId") -> bool:
        """Return whether a partition may belong to both."""
        return (self.number - other.number) % gcd(self.count, other.count) == 0


WHOLE = ShardId()


def parse_shard(name: str) -> ShardId | None:
    """Return the shard of a name like `2-of-3`; None if it is no such name."""
    if (match := _NAME.fullmatch(name)) is None:
        return None
    number, count = int(match[1]) - 1, int(match[2])
    return ShardId(number, count) if number < count else None
