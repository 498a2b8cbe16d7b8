"""Who was first, and by how much, of two legs with the same stream."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.core.model.events import Event, Quote, Trade
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.sequencers import new_track
from tests.support.events import FRAMES, decode_event, repeatable


def arrive(kind: str, field: str, moments: list[tuple[int, str, int]]) -> dict[str, Arrivals]:
    """Events with these ids come over these legs at these moments, in microseconds."""
    model = decode_event(FRAMES[kind])
    assert isinstance(model, Trade | Quote)
    track = new_track(type(model))
    legs = {"a": Arrivals(), "b": Arrivals()}
    for received, leg, identity in sorted(moments):
        event: Event = replace(model, received=received, **{field: identity})
        legs[leg].compares = True
        legs[leg].events += 1
        before = track.repeats
        track.accept(event)
        if track.repeats != before:
            legs[leg].repeated(track, event)
    return legs


@repeatable
@given(
    st.sampled_from([("trade", "trade_id"), ("bookTicker", "update_id")]),
    st.lists(st.integers(1, 1_000_000), min_size=1, max_size=50),
    st.integers(1, 5_000_000),
)
def test_a_steady_lead_is_measured_exactly_however_many_events_lie_between(
    kind: tuple[str, str], pauses: list[int], lead_us: int
) -> None:
    now, moments = 10**15, []
    for identity, pause in enumerate(pauses, 1):
        now += pause
        moments += [(now, "a", identity), (now + lead_us, "b", identity)]
    legs = arrive(*kind, moments)
    assert legs["a"].repeats == legs["a"].behind == 0
    assert legs["b"].events == legs["b"].repeats == len(pauses)
    assert legs["b"].behind >= 1
    assert legs["b"].behind_us == legs["b"].behind * lead_us


@repeatable
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=50))
def test_each_event_was_first_once(delays: list[tuple[int, int]]) -> None:
    moments = []
    for identity, (one, other) in enumerate(delays, 1):
        sent = identity * 1000
        moments += [(sent + one, "a", identity), (sent + other, "b", identity)]
    legs = arrive("trade", "trade_id", moments)
    assert sum(leg.events - leg.repeats for leg in legs.values()) == len(delays)
    assert all(0 <= leg.behind_us <= 50 * leg.behind for leg in legs.values())
    assert sum(leg.behind for leg in legs.values()) == len(delays)


def test_a_sample_the_other_leg_lost_is_given_up_for_the_next() -> None:
    both = [(10, "a", 1), (11, "a", 2), (12, "b", 1), (13, "a", 3), (20, "b", 3)]
    legs = arrive("bookTicker", "update_id", [*both, (21, "a", 4), (25, "b", 4)])
    assert (legs["b"].behind, legs["b"].behind_us) == (2, 7 + 4)


def test_a_leg_that_is_always_several_events_behind_is_measured_again_and_again() -> None:
    ahead = [(n * 10, "a", n) for n in range(100)]
    legs = arrive("trade", "trade_id", ahead + [(n * 10 + 55, "b", n) for n in range(100)])
    assert legs["b"].behind >= 10
    assert legs["b"].behind_us == legs["b"].behind * 55


def test_nothing_is_compared_while_a_leg_has_two_connections() -> None:
    track = new_track(Trade)
    event = decode_event(FRAMES["trade"])
    track.accept(event)
    track.accept(event)
    arrivals = Arrivals()
    arrivals.repeated(track, event)
    assert (arrivals.repeats, arrivals.behind) == (1, 0)
