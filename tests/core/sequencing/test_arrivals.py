"""The delay between two connectors with the same stream."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.core.model.events import Event, Quote, Trade
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.sequencers import new_sequencer
from tests.support.events import FRAMES, decode_event, repeatable


def arrive(kind: str, field: str, moments: list[tuple[int, str, int]]) -> dict[str, Arrivals]:
    """Let events arrive, each as (arrival in microseconds, connector, id); return the counters."""
    model = decode_event(FRAMES[kind])
    assert isinstance(model, Trade | Quote)
    sequencer = new_sequencer(type(model))
    connectors = {"a": Arrivals(), "b": Arrivals()}
    for received, connector, identity in sorted(moments):
        event: Event = replace(model, received=received, **{field: identity})
        connectors[connector].compares = True
        connectors[connector].events += 1
        before = sequencer.duplicates
        sequencer.accept(event)
        if sequencer.duplicates != before:
            connectors[connector].count_duplicate(sequencer, event)
    return connectors


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
    connectors = arrive(*kind, moments)
    assert connectors["a"].duplicates == connectors["a"].behind == 0
    assert connectors["b"].events == connectors["b"].duplicates == len(pauses)
    assert connectors["b"].behind >= 1
    assert connectors["b"].behind_us == connectors["b"].behind * lead_us


@repeatable
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=50))
def test_each_event_was_first_once(delays: list[tuple[int, int]]) -> None:
    moments = []
    for identity, (one, other) in enumerate(delays, 1):
        sent = identity * 1000
        moments += [(sent + one, "a", identity), (sent + other, "b", identity)]
    connectors = arrive("trade", "trade_id", moments)
    assert sum(connector.events - connector.duplicates for connector in connectors.values()) == len(
        delays
    )
    assert all(
        0 <= connector.behind_us <= 50 * connector.behind for connector in connectors.values()
    )
    assert sum(connector.behind for connector in connectors.values()) == len(delays)


def test_a_sample_the_other_connector_lost_is_given_up_for_the_next() -> None:
    both = [(10, "a", 1), (11, "a", 2), (12, "b", 1), (13, "a", 3), (20, "b", 3)]
    connectors = arrive("bookTicker", "update_id", [*both, (21, "a", 4), (25, "b", 4)])
    assert (connectors["b"].behind, connectors["b"].behind_us) == (2, 7 + 4)


def test_a_connector_that_is_always_several_events_behind_is_measured_again_and_again() -> None:
    ahead = [(n * 10, "a", n) for n in range(100)]
    connectors = arrive("trade", "trade_id", ahead + [(n * 10 + 55, "b", n) for n in range(100)])
    assert connectors["b"].behind >= 10
    assert connectors["b"].behind_us == connectors["b"].behind * 55


def test_nothing_is_compared_while_a_connector_has_two_connections() -> None:
    sequencer = new_sequencer(Trade)
    event = decode_event(FRAMES["trade"])
    sequencer.accept(event)
    sequencer.accept(event)
    arrivals = Arrivals()
    arrivals.count_duplicate(sequencer, event)
    assert (arrivals.duplicates, arrivals.behind) == (1, 0)
