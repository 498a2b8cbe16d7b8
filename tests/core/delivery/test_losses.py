import pytest

from bridge.core.delivery.losses import MAX_RUNS, Losses, holes
from tests.support.spilling import record, route

BTC, ETH, QUOTE = route("BTCUSDT"), route("ETHUSDT"), route("BTCUSDT", "quote")


def test_ids_given_up_one_after_the_other_are_one_run() -> None:
    losses = Losses()
    losses.add([record(BTC, number) for number in (1, 2, 3, 7, 8)], "outbox_full")
    losses.add([record(BTC, 9), record(ETH, 10)], "outbox_full")
    found = [(loss.symbol, loss.first_id, loss.last_id) for loss in losses.take()]
    assert found == [("BTCUSDT", 1, 3), ("BTCUSDT", 7, 9), ("ETHUSDT", 10, 10)]
    assert losses.take() == []


def test_without_ids_a_loss_is_a_time() -> None:
    losses = Losses()
    losses.add([record(QUOTE, number, received=number * 1000) for number in (3, 4, 9)], "x")
    (loss,) = losses.take()
    assert (loss.first_id, loss.from_time, loss.to_time) == (-1, 3000, 9000)
    assert loss.is_exact


def test_another_cause_is_another_run() -> None:
    losses = Losses()
    losses.add([record(QUOTE, 1)], "outbox_full")
    losses.add([record(QUOTE, 2)], "spill_corrupt")
    assert [loss.cause for loss in losses.take()] == ["outbox_full", "spill_corrupt"]


def test_runs_that_are_too_many_are_stretched_and_none_is_forgotten() -> None:
    losses = Losses()
    losses.add([record(BTC, 2 * number) for number in range(2 * MAX_RUNS)], "outbox_full")
    runs = losses.take()
    assert len(runs) == MAX_RUNS
    assert (runs[-1].first_id, runs[-1].last_id) == (2 * MAX_RUNS - 2, 4 * MAX_RUNS - 2)
    assert [loss.is_exact for loss in runs] == [True] * (MAX_RUNS - 1) + [False]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], []),
        ([(5, 9)], []),
        ([(1, 1), (5, 9)], [(2, 4)]),
        ([(5, 9), (1, 4)], []),
        ([(1, 20), (5, 9), (25, 30), (22, 22)], [(21, 21), (23, 24)]),
    ],
)
def test_holes_lie_between_ranges(
    ranges: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    assert holes(ranges) == expected
