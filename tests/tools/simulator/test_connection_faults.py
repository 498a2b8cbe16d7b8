import json

import pytest

from bridge.tools.simulator import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    Fault,
    FaultPlan,
    Incident,
    Malformation,
    Malformed,
    Reorder,
    Repeat,
    SimulatorError,
    Skip,
    StallConnection,
    StallStream,
)
from bridge.tools.simulator.actions import Action, Binary, Command
from bridge.tools.simulator.connection_faults import ConnectionFaults
from bridge.tools.simulator.incidents import Incidents
from bridge.tools.simulator.malformed import OVERSIZED_BYTES
from bridge.tools.simulator.session import Close

STREAMS = ("a@trade", "a@bookTicker", "b@trade")
Frame = tuple[str, bytes]


def frames(begin: int, end: int, *streams: str) -> list[Frame]:
    names = streams or STREAMS[:1]
    return [
        (name, b'{"stream":"%b","data":{"t":%d,"p":"1.5"}}' % (name.encode(), number))
        for number in range(begin, end)
        for name in names
    ]


class Played:
    """A connection under a plan, and its actions so far; one frame every tenth of a second."""

    def __init__(
        self,
        *faults: Fault,
        seed: int = 7,
        number: int = 0,
        opened_s: float = 0.0,
        incidents: Incidents | None = None,
    ) -> None:
        self.incidents = incidents or Incidents()
        self.faults = ConnectionFaults(FaultPlan(faults, seed), number, opened_s, self.incidents)
        self.actions: list[tuple[float, Action]] = []

    def play(self, seconds: float, *streams: str, begin_s: float = 0.0) -> "Played":
        for tenth in range(round(begin_s * 10), round((begin_s + seconds) * 10)):
            now_s = tenth / 10
            done = self.faults.pass_on(frames(tenth, tenth + 1, *streams), STREAMS, now_s)
            self.actions += [(now_s, action) for action in done]
        return self

    @property
    def sent(self) -> list[bytes]:
        return [action for _, action in self.actions if isinstance(action, bytes)]

    @property
    def happened(self) -> list[Incident]:
        return self.incidents.happened()

    def others(self) -> list[tuple[float, Action]]:
        return [
            (moment, action) for moment, action in self.actions if not isinstance(action, bytes)
        ]


def texts(begin: int, end: int, *streams: str) -> list[bytes]:
    return [text for _, text in frames(begin, end, *streams)]


def test_without_faults_every_frame_is_passed_on() -> None:
    connection = Played().play(3)
    assert connection.sent == texts(0, 30)
    assert connection.happened == []


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (Cut(at_s=1.0), Command.ABORT),
        (
            CloseWith(at_s=1.0, code=1008, reason="Too many requests"),
            Close(1008, "Too many requests"),
        ),
    ],
)
def test_a_connection_ends_at_its_moment_and_sends_no_more(fault: Fault, action: Action) -> None:
    connection = Played(fault).play(2)
    assert connection.others() == [(1.0, action)]
    assert connection.sent == texts(0, 10)
    assert connection.happened == [Incident(1.0, fault, connection=0)]


def test_a_shutdown_is_announced_and_follows_after_its_lead() -> None:
    connection = Played(AnnounceShutdown(at_s=1.0, lead_s=0.5)).play(3)
    (announced, announcement), (ended, end) = connection.others()
    assert (announced, announcement) == (1.0, Command.ANNOUNCE_SHUTDOWN)
    assert ended == 1.5
    assert isinstance(end, Close)
    assert end.code == 1001
    assert connection.sent == texts(0, 15)


@pytest.mark.parametrize("lost", [True, False])
def test_a_stalled_stream_is_silent_and_the_others_are_not(*, lost: bool) -> None:
    fault = StallStream(at_s=1.0, for_s=0.5, lost=lost, streams="a@trade")
    connection = Played(fault).play(2, "a@trade", "b@trade")
    stalled = texts(10, 15, "a@trade")
    late = [(moment, action) for moment, action in connection.actions if action in stalled]
    assert late == ([] if lost else [(1.5, text) for text in stalled])
    assert [text for text in connection.sent if b"b@trade" in text] == texts(0, 20, "b@trade")
    assert [text for text in connection.sent if b"a@trade" in text and text not in stalled] == [
        *texts(0, 10),
        *texts(15, 20),
    ]
    assert connection.happened == [Incident(1.0, fault, 0, "a@trade")]


def test_what_stalls_is_drawn_from_the_streams_of_the_connection() -> None:
    drawn = {
        Played(StallStream(at_s=1.0, for_s=1.0), seed=seed).play(2, *STREAMS).happened[0].subject
        for seed in range(20)
    }
    assert drawn == set(STREAMS)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("deaf", [True, False])
def test_a_stalled_connection_sends_nothing_and_if_deaf_reads_nothing(
    *, lost: bool, deaf: bool
) -> None:
    connection = Played(StallConnection(at_s=1.0, for_s=0.5, lost=lost, deaf=deaf)).play(2)
    assert not [
        action
        for moment, action in connection.actions
        if 1.0 <= moment < 1.5 and action in connection.sent
    ]
    assert connection.sent == ([*texts(0, 10), *texts(15, 20)] if lost else texts(0, 20))
    assert connection.others() == (
        [(1.0, Command.STOP_READING), (1.5, Command.READ_AGAIN)] if deaf else []
    )


def test_what_a_stalled_stream_owes_waits_for_the_stalled_connection_as_well() -> None:
    connection = Played(
        StallStream(at_s=1.0, for_s=0.5, lost=False, streams="a@trade"),
        StallConnection(at_s=1.2, for_s=0.8, lost=False),
    ).play(3)
    assert sorted(connection.sent) == sorted(texts(0, 30))
    assert not [action for moment, action in connection.actions if 1.0 <= moment < 2.0]


def test_skipped_frames_are_missing_and_named() -> None:
    fault = Skip(share=0.1, count=2, streams="*@trade")
    connection = Played(fault).play(30, *STREAMS)
    skipped = [incident.payload for incident in connection.happened]
    assert 60 < len(skipped) < 180
    assert connection.sent == [text for text in texts(0, 300, *STREAMS) if text not in set(skipped)]
    assert {incident.subject for incident in connection.happened} == {"a@trade", "b@trade"}


def test_repeated_frames_come_twice_and_are_named() -> None:
    connection = Played(Repeat(share=0.1)).play(30)
    repeated = {incident.payload for incident in connection.happened}
    assert 10 < len(repeated) < 60
    expected = [text for text in texts(0, 300) for _ in range(2 if text in repeated else 1)]
    assert connection.sent == expected


def test_a_reordered_frame_comes_after_the_next_of_its_stream() -> None:
    connection = Played(Reorder(at_s=1.0, streams="a@trade")).play(2, "a@trade", "b@trade")
    numbers = [json.loads(text)["data"]["t"] for text in connection.sent if b"a@trade" in text]
    assert numbers == [*range(10), 11, 10, *range(12, 20)]
    assert [text for text in connection.sent if b"b@trade" in text] == texts(0, 20, "b@trade")
    assert [incident.payload for incident in connection.happened] == texts(10, 11)


def test_malformed_frames_are_sent_beside_the_good_ones() -> None:
    kinds = (Malformation.TRUNCATED, Malformation.WRONG_TYPE)
    connection = Played(Malformed(share=0.2, kinds=kinds)).play(60)
    bad = [incident.payload for incident in connection.happened]
    assert 60 < len(bad) < 180
    assert [text for text in connection.sent if text not in set(bad)] == texts(0, 600)
    assert [text for text in connection.sent if text in set(bad)] == bad
    assert any(text.endswith(b'{"t":"n/a","p":"1.5"}}') for text in bad)
    truncated = [text for text in bad if b"n/a" not in text]
    for text in truncated:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


def test_malformed_frames_may_be_binary_or_too_large() -> None:
    (text,) = texts(0, 1)
    assert [d for _, d in Played(Malformed(kinds=(Malformation.BINARY,))).play(0.1).actions] == [
        Binary(text),
        text,
    ]
    connection = Played(Malformed(kinds=(Malformation.OVERSIZED,))).play(0.1)
    large, good = connection.sent
    assert (len(large), good) == (OVERSIZED_BYTES, text)
    assert json.loads(large) == json.loads(text)
    assert connection.happened[0].payload == b""  # a million incidents are kept in memory


def moments(*faults: Fault, number: int = 0, seed: int = 7) -> list[float]:
    connection = Played(*faults, number=number, seed=seed).play(600)
    return [incident.at_s for incident in connection.happened]


def test_random_moments_have_their_mean_and_their_bounds() -> None:
    drawn = moments(Skip(every_s=2.0, at_s=100.0, until_s=500.0))
    assert 150 < len(drawn) < 250
    assert drawn[0] > 100
    assert drawn[-1] < 500


def test_a_seed_settles_everything_and_each_connection_draws_its_own() -> None:
    plan = FaultPlan.seeded(3).faults
    assert FaultPlan.seeded(3).faults == plan
    assert FaultPlan.seeded(4).faults != plan

    def story(seed: int, number: int) -> tuple[list[tuple[float, Action]], list[Incident]]:
        connection = Played(*plan, seed=seed, number=number).play(60, *STREAMS)
        return connection.actions, connection.happened

    assert story(3, 0) == story(3, 0)
    assert story(3, 0)[0] != story(3, 1)[0]
    assert story(3, 0)[0] != story(4, 0)[0]


def test_one_fault_does_not_move_the_moments_of_another() -> None:
    skip = Skip(every_s=5.0, streams="a@trade")
    connection = Played(skip, Repeat(share=0.3, streams="b@trade")).play(600, "a@trade", "b@trade")
    assert [one.at_s for one in connection.happened if one.fault is skip] == moments(skip)


def test_a_single_moment_is_for_those_who_are_there_or_for_the_one_it_names() -> None:
    incidents = Incidents()
    everyone, third = Cut(at_s=1.0), CloseWith(at_s=1.0, connection=3)
    for number, opened_s in enumerate((0.0, 0.5, 1.5, 1.5)):
        Played(everyone, third, number=number, opened_s=opened_s, incidents=incidents).play(
            3, begin_s=opened_s
        )
    assert incidents.happened() == [
        Incident(1.0, everyone, 0),
        Incident(1.0, everyone, 1),
        Incident(1.5, third, 3),
    ]


def test_a_fault_happens_so_many_times_in_all() -> None:
    incidents, fault = Incidents(), Repeat(every_s=0.5, times=5)
    for number in range(3):
        Played(fault, number=number, incidents=incidents).play(2)
    assert len(incidents.happened()) == 5


@pytest.mark.parametrize("every_s", [0.0, -1.0])
def test_a_mean_that_is_none_is_refused(every_s: float) -> None:
    with pytest.raises(SimulatorError, match="above 0"):
        Cut(every_s=every_s)


def test_a_share_that_is_none_or_not_alone_is_refused() -> None:
    with pytest.raises(SimulatorError, match="from 0 to 1"):
        Skip(share=1.5)
    with pytest.raises(SimulatorError, match="give one of them"):
        Skip(share=0.5, every_s=1.0)
