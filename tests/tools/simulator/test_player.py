"""The player on uvloop, the event loop of production."""

from collections.abc import Sequence

import uvloop

from bridge.tools.simulator import Message, Replay
from bridge.tools.simulator.audience import Audience
from bridge.tools.simulator.history import History
from bridge.tools.simulator.player import Player
from tests.support.simulator import capture_of, trades


class Counted(Replay):
    """Counts the calls of `take`."""

    asked = 0

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        self.asked += 1
        return super().take(until_us, limit)


def test_between_messages_closer_than_a_millisecond_nothing_spins() -> None:
    source = Counted([capture_of(trades(2_000), every_us=50)])

    async def play() -> None:
        audience = Audience(source, start_after_streams=0)
        player = Player(source, History(source.symbols), audience, speed=1.0)
        await player.play()

    uvloop.run(play())

    # One call in each of 100 milliseconds, and another one after each timer that fires early.
    assert source.asked <= 150
