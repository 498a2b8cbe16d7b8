"""Which connection waits for which other one."""

from contextlib import suppress
from unittest.mock import Mock

import structlog

from bridge.binance.connection import Connection
from bridge.binance.coverage import Coverage
from bridge.core.binance.stream_names import parse_stream
from bridge.errors import FeedUnavailable

QUOTES, OTHERS = (parse_stream(f"{symbol}@bookTicker") for symbol in ("btcusdt", "ethusdt"))


class Bench:
    """A bundle of two streams, and connections that never have a transport."""

    def __init__(self) -> None:
        self.handler = Mock()
        self.handler.finish_handover = lambda handover, cause, _arrivals, carried: list(
            handover.finish(cause, carried)
        )
        self.coverage = Coverage([QUOTES, OTHERS], self.handler)

    def connection(self, *streams: object) -> Connection:
        return Connection("a", [*streams], self.handler, structlog.get_logger())  # type: ignore[list-item]

    def open(self, *streams: object) -> Connection:
        connection = self.connection(*streams)
        with self.coverage.opening(connection):
            pass
        self.coverage.opened(connection)
        return connection


def waits_for(connection: Connection) -> set[str]:
    return set() if connection.handover is None else connection.handover.streams


def test_of_two_connections_that_open_at_the_same_time_the_later_one_waits() -> None:
    bench = Bench()
    later = bench.connection(QUOTES, OTHERS)
    with bench.coverage.opening(later):
        first = bench.open(QUOTES, OTHERS)
    bench.coverage.opened(later)
    assert waits_for(first) == set()
    assert waits_for(later) == {QUOTES.name, OTHERS.name}


def test_a_connection_that_could_not_open_waits_for_none_and_none_waits_for_it() -> None:
    bench = Bench()
    failed = bench.connection(QUOTES)
    with suppress(FeedUnavailable), bench.coverage.opening(failed):
        raise FeedUnavailable("refused")
    assert waits_for(bench.open(QUOTES)) == set()
    assert waits_for(failed) == set()


def test_a_connection_waits_only_for_streams_that_an_older_one_carries() -> None:
    bench = Bench()
    old, new = bench.open(QUOTES), bench.open(QUOTES, OTHERS)
    assert waits_for(new) == {QUOTES.name}
    newest = bench.open(QUOTES, OTHERS)
    assert waits_for(newest) == {QUOTES.name, OTHERS.name}
    bench.coverage.lost(new)
    assert waits_for(newest) == {QUOTES.name}
    bench.coverage.lost(old)
    assert newest.handover is None
