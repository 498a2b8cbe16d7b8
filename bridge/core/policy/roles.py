"""Decides which bridges of a group own the shards, and which stand by. Its leader asks.

Bridges with other topics, or with another number of shards, do not share shards with each other.
While that number changes there are two divisions, and the fence decides who publishes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace


class Member(msgspec.Struct, frozen=True):
    """What a bridge tells the group when it joins.

    `topic` is its position topic. `shards` is their number, `owns` and `watches` name those that it
    owns and stands by for. `standby` is how many bridges stand by for a shard. `attempt` rises to
    join with a change.
    """

    name: str
    topic: str = ""
    shards: int = 1
    standby: int = 0
    owns: tuple[int, ...] = ()
    watches: tuple[int, ...] = ()
    attempt: int = 0


class Roles(msgspec.Struct, frozen=True):
    """The shards of one bridge, by their numbers, each with the name of the bridge in the other
    role; an empty name if there is none. The group has so many `bridges`.
    """

    shards: int = 1
    owner: dict[int, str] = {}
    standby: dict[int, str] = {}
    bridges: int = 1


# By shard: the id of a member.
Holders = dict[int, str]


def share_out(members: Mapping[str, Member]) -> dict[str, Roles]:
    """Return the roles of each member, by its id. As little moves as a fair division allows."""
    roles: dict[str, Roles] = {}
    for division in {_division(member) for member in members.values()}:
        alike = {name: each for name, each in members.items() if _division(each) == division}
        roles |= _share_out(alike, division[1])
    return {each: replace(ours, bridges=len(members)) for each, ours in roles.items()}


def _division(member: Member) -> tuple[str, int]:
    """Return what the members that share shards with each other have in common."""
    return member.topic, member.shards


def _share_out(members: Mapping[str, Member], count: int) -> dict[str, Roles]:
    owners = _owners(members, count)
    standbys = _standbys(members, count, owners)

    def of(member_id: str, ours: Holders, others: Holders) -> dict[int, str]:
        return {
            shard: members[others[shard]].name if shard in others else ""
            for shard in sorted(ours)
            if ours[shard] == member_id
        }

    return {
        member_id: Roles(count, of(member_id, owners, standbys), of(member_id, standbys, owners))
        for member_id in members
    }


def _owners(members: Mapping[str, Member], count: int) -> Holders:
    """Return the owner of each shard. A standby receives the streams already."""
    ids = sorted(
        members, key=lambda each: (-len(members[each].owns), -len(members[each].watches), each)
    )
    wishes = [(n, each) for each in ids for n in members[each].owns]
    warm = [(n, each) for each in ids for n in members[each].watches]
    return _divide(count, ids, wishes + warm, {})


def _standbys(members: Mapping[str, Member], count: int, owners: Holders) -> Holders:
    """Return the standby of each shard, if there is one. A former owner receives the streams."""
    if len(members) == 1 or not any(member.standby for member in members.values()):
        return {}
    owned = Counter(owners.values())
    ids = sorted(members, key=lambda each: (owned[each], -len(members[each].watches), each))
    wishes = [(n, each) for each in ids for n in members[each].watches]
    warm = [(n, each) for each in ids for n in members[each].owns]
    return _divide(count, ids, wishes + warm, owners)


def _divide(
    count: int, ids: Sequence[str], wishes: Iterable[tuple[int, str]], others: Holders
) -> Holders:
    """Give each shard to a member that does not have it in `others`. Each member gets as many, the
    first ones one more. Wishes come first.
    """
    least, more = divmod(count, len(ids))
    room = {each: least + (place < more) for place, each in enumerate(ids)}
    holders: Holders = {}
    for shard, each in wishes:
        if shard < count and shard not in holders and room[each] and others.get(shard) != each:
            holders[shard] = each
            room[each] -= 1

    def place(shard: int, full: set[str]) -> bool:
        """Give a shard to a member with room, or to one that gives another shard away for it."""
        able = [each for each in ids if others.get(shard) != each]
        best = max(able, key=room.__getitem__)
        if room[best] > 0:
            holders[shard] = best
            room[best] -= 1
            return True
        for each in [each for each in able if each not in full]:
            full.add(each)
            for other in [n for n, holder in holders.items() if holder == each]:
                if place(other, full):
                    holders[shard] = each
                    return True
        return False

    for shard in sorted(set(range(count)) - holders.keys()):
        place(shard, set())
    return holders
