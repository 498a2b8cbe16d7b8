"""The division of the shards among the bridges of a group."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.core.policy.roles import Member, Roles, share_out

Group = dict[str, Member]
COUNTS = st.integers(1, 8)


@st.composite
def groups(draw: st.DrawFn, *, standby: int = 1) -> Group:
    """Return a group of bridges. Several may believe that they own a shard."""
    count = draw(COUNTS)
    shards = st.lists(st.integers(0, count - 1), unique=True).map(tuple)
    fixed = map(st.just, ("n", "topic", count, standby))
    members = st.builds(Member, *fixed, shards, shards)
    found = draw(st.dictionaries(st.sampled_from("abcde"), members, min_size=1))
    return {each: replace(member, name=each) for each, member in found.items()}


def owners(roles: dict[str, Roles]) -> list[int]:
    return sorted(shard for each in roles.values() for shard in each.owner)


def after(members: Group, roles: dict[str, Roles]) -> Group:
    """Return the members once everybody has taken its roles."""
    return {
        each: replace(member, owns=tuple(roles[each].owner), watches=tuple(roles[each].standby))
        for each, member in members.items()
    }


@given(groups())
def test_each_shard_has_one_owner_and_another_bridge_stands_by(members: Group) -> None:
    roles = share_out(members)
    count = next(iter(members.values())).shards
    assert owners(roles) == list(range(count))
    standbys = sorted(shard for each in roles.values() for shard in each.standby)
    assert standbys == (list(range(count)) if len(members) > 1 else [])
    for each in roles.values():
        assert each.owner.keys().isdisjoint(each.standby)
    for name, ours in roles.items():
        assert all(name == roles[other].standby[n] for n, other in ours.owner.items() if other)
        assert all(name == roles[other].owner[n] for n, other in ours.standby.items())


@given(groups(standby=0))
def test_without_standbys_nobody_stands_by(members: Group) -> None:
    assert all(each.standby == {} for each in share_out(members).values())


@given(groups())
def test_no_bridge_has_two_shards_more_in_a_role_than_another(members: Group) -> None:
    for role in ("owner", "standby"):
        numbers = [len(getattr(each, role)) for each in share_out(members).values()]
        assert max(numbers) - min(numbers) <= 1


@given(groups())
def test_nothing_moves_if_nothing_has_changed(members: Group) -> None:
    roles = share_out(members)
    assert share_out(after(members, roles)) == roles


@given(groups(), st.data())
def test_a_bridge_that_leaves_moves_only_its_own_shards(
    members: Group, data: st.DataObject
) -> None:
    before = share_out(members)
    left = after(members, before)
    gone = data.draw(st.sampled_from(sorted(left)))
    del left[gone]
    if left:
        roles = share_out(left)
        for each in left:
            assert before[each].owner.keys() <= roles[each].owner.keys()


@given(groups())
def test_a_bridge_that_joins_takes_only_its_part(members: Group) -> None:
    before = share_out(members)
    joined = after(members, before) | {
        "new": replace(next(iter(members.values())), name="new", owns=(), watches=())
    }
    roles = share_out(joined)
    moved = Counter(
        each for each in members for n in before[each].owner if n not in roles[each].owner
    )
    assert sum(moved.values()) == len(roles["new"].owner)


def test_the_standby_becomes_the_owner_of_a_bridge_that_is_gone() -> None:
    members = {"a": Member("a", standby=1), "b": Member("b", standby=1, watches=(0,))}
    assert share_out(members)["b"] == Roles(1, owner={0: "a"}, bridges=2)


def test_bridges_with_another_number_of_shards_do_not_share_them() -> None:
    members = {
        "a": Member("a", "topic", 1, 1, owns=(0,)),
        "b": Member("b", "topic", 2, 1),
        "c": Member("c", "topic", 2, 1),
    }
    assert share_out(members) == {
        "a": Roles(1, owner={0: ""}, bridges=3),
        "b": Roles(2, owner={0: "c"}, standby={1: "c"}, bridges=3),
        "c": Roles(2, owner={1: "b"}, standby={0: "b"}, bridges=3),
    }


def test_bridges_with_other_topics_do_not_share_shards() -> None:
    """Two releases on one Kafka have the same group by default."""
    members = {name: Member(name, f"topic of {name}", standby=1) for name in ("a", "b")}
    alone = Roles(1, owner={0: ""}, bridges=2)
    assert share_out(members) == dict.fromkeys(members, alone)
