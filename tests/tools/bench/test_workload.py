"""The load: by its schedule, each message once, the same mix for any number of symbols."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.sequencing.sequencers import Sequencers
from bridge.tools.bench.workload import Load, Offered, Phase, Schedule, read_source
from bridge.tools.simulator.batch import Batch, Form

PHASES = st.lists(
    st.builds(Phase, st.integers(1, 50_000), st.floats(0.01, 5)), min_size=1, max_size=4
)


@given(PHASES, st.data())
def test_a_message_is_counted_from_the_moment_it_is_due(
    phases: list[Phase], data: st.DataObject
) -> None:
    schedule = Schedule(phases)
    if not schedule.total:
        return
    number = data.draw(st.integers(0, schedule.total - 1))
    due_us = schedule.due_us(number)
    assert schedule.count_by(due_us) >= number + 1
    assert due_us == 0 or schedule.count_by(due_us - 1) <= number


@given(PHASES)
def test_all_are_due_at_the_end(phases: list[Phase]) -> None:
    schedule = Schedule(phases)
    assert schedule.count_by(schedule.begins_us[-1]) == schedule.total
    assert schedule.windows_us()[-1][1] == schedule.begins_us[-1]


def test_a_phase_follows_the_other_at_its_own_rate() -> None:
    schedule = Schedule([Phase(10, 1.0), Phase(100, 1.0)])
    assert [schedule.due_us(number) for number in (0, 1, 9, 10, 11)] == [
        *(0, 100_000, 900_000),
        *(1_000_000, 1_010_000),
    ]
    assert schedule.total == 110


def test_what_is_offered_is_counted_and_ends_with_the_schedule() -> None:
    phases = (Phase(100, 1.0),)
    offered = Offered(read_source(Load(phases=phases)), Schedule(phases))
    assert len(offered.take(500_000, 512)) == 51
    assert offered.take(500_000, 512) == ()
    assert len(offered.take(10**9, 512)) == 49
    assert (offered.count, offered.due_us()) == (100, None)


def test_without_a_schedule_there_is_no_end() -> None:
    offered = Offered(read_source(Load()), None)
    for _ in range(200):
        assert len(offered.take(None, 512)) > 0
    assert offered.due_us() is not None


@pytest.mark.parametrize("symbols", [3, 1000])
def test_invented_messages_have_one_mix_and_ids_without_a_hole(symbols: int) -> None:
    load = Load(symbols=symbols, streams=("trade", "aggTrade", "bookTicker"))
    source = read_source(load)
    names = [f"{symbol.lower()}@{kind}" for symbol in source.symbols for kind in load.streams]
    streams = [parse_stream(name) for name in names]
    decoder, sequencers = Decoder(streams), Sequencers(streams)
    taken = [message for _ in range(130) for message in source.take(None, 512)]
    kinds = Counter(name.partition("@")[2] for name, _ in taken)
    assert kinds["bookTicker"] / len(taken) == pytest.approx(0.6, abs=0.02)
    for frame in Batch(taken).texts(names, Form(combined=True, microseconds=False)):
        decoded = decoder.decode(frame, 0)
        assert isinstance(decoded, tuple)
        stream, (event,) = decoded
        assert sequencers.sequencer(stream, event).accept(event) == (event,)


def test_a_source_without_a_schedule_is_played_on_its_own_clock_until_the_end() -> None:
    source = read_source(Load())
    offered = Offered(source, None, end_us=10_000)
    assert len(offered.take(2_000, 512)) == 3
    assert len(offered.take(9_999, 512)) == 7
    assert (offered.count, offered.due_us()) == (10, None)
