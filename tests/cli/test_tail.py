"""`tail`: it prints the bytes of each record, one record per line."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from io import BytesIO, TextIOWrapper
from typing import Self

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import settings
from bridge.cli.event_table import EventTable
from bridge.cli.tail import _json_lines, _print
from bridge.client import decode_event
from bridge.core.model.events import EVENT_TYPES, Event
from bridge.monitoring.words import printable
from bridge.tools.embedded import free_port
from tests.cli.conftest import END_TIMEOUT_S, Run, ended, process
from tests.support.brokers import Kafka
from tests.support.publishing import gap, kafka_options, publish, trade
from tests.support.strategies import events_of


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(kafka, unique)


def published(options: settings.Kafka, events: Sequence[Event]) -> list[bytes]:
    return asyncio.run(publish(options, events))


def variables(options: settings.Kafka) -> dict[str, str]:
    return {
        "TICKBRIDGE_KAFKA__BOOTSTRAP_SERVERS": options.bootstrap_servers[0],
        "TICKBRIDGE_KAFKA__TOPIC": options.topic,
    }


def test_the_lines_are_the_records_byte_for_byte(tickbridge: Run, options: settings.Kafka) -> None:
    values = published(options, [trade("币安人生USDT", number) for number in range(20)])
    result = tickbridge("tail", "trade", "--from=earliest", "--count", "20", **variables(options))
    assert result.exit_code == 0
    assert result.stdout_bytes.splitlines() == values


class Batches:
    """A reader with one record of another program."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def batches(self) -> AsyncIterator[list[bytes]]:
        yield [b"\x1b[2J\xff\x07"]


@pytest.mark.parametrize(
    ("is_terminal", "expected"),
    [(True, rb"\x1b[2J\xff\x07" + b"\n"), (False, b"\x1b[2J\xff\x07\n")],
    ids=["terminal", "pipe"],
)
def test_a_terminal_gets_escapes_for_what_it_would_execute(
    monkeypatch: pytest.MonkeyPatch,
    is_terminal: bool,  # noqa: FBT001
    expected: bytes,
) -> None:
    out = TextIOWrapper(BytesIO())
    monkeypatch.setattr(out, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdout", out)
    asyncio.run(_print(Batches(), 1, _json_lines))  # type: ignore[arg-type]
    assert out.buffer.getvalue() == expected


def test_count_cuts_a_batch(tickbridge: Run, options: settings.Kafka) -> None:
    values = published(options, [trade("BTCUSDT", number) for number in range(20)])
    result = tickbridge("tail", "trade", "--from=earliest", "--count", "3", **variables(options))
    assert result.stdout_bytes.splitlines() == values[:3]


def test_only_the_symbol_asked_for_comes(tickbridge: Run, options: settings.Kafka) -> None:
    values = published(options, [trade(s, 1) for s in ("BTCUSDT", "ETHUSDT", "BNBUSDT")])
    result = tickbridge(
        *("tail", "trade", "--symbol", "ethusdt", "--from=earliest", "--count", "1"),
        **variables(options),
    )
    assert result.stdout_bytes.splitlines() == [values[1]]


def test_ctrl_c_ends_it_well(options: settings.Kafka) -> None:
    published(options, [trade("BTCUSDT", 1)])
    with process("tail", "trade", "--from=earliest", **variables(options)) as running:
        assert running.stdout
        assert running.stdout.readline()
        assert ended(running, signal.SIGINT) == 0
        assert running.stderr
        assert running.stderr.read() == b""


def test_a_reader_that_has_seen_enough_ends_it_quietly(options: settings.Kafka) -> None:
    values = published(options, [trade("BTCUSDT", number) for number in range(3000)])
    with process("tail", "trade", "--from=earliest", **variables(options)) as running:
        assert running.stdout
        assert running.stderr
        assert running.stdout.readline() == values[0] + b"\n"
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(END_TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("kind", "hint"), [("trad", "did you mean 'trade'"), ("bookTicker", "'quote'")]
)
def test_an_unknown_kind_is_wrong_usage(tickbridge: Run, kind: str, hint: str) -> None:
    result = tickbridge("tail", kind)
    assert (result.exit_code, hint in result.stderr) == (2, True)


def test_an_absent_topic_is_exit_1(tickbridge: Run, options: settings.Kafka) -> None:
    result = tickbridge("tail", "gap", **variables(options))
    assert result.exit_code == 1
    assert "Kafka has no topic" in result.stderr


def test_an_absent_broker_is_one_line_and_exit_1(tickbridge: Run) -> None:
    servers = f"localhost:{free_port()}"
    result = tickbridge("tail", "trade", "--kafka", servers)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"Kafka at {servers} cannot be reached" in line


def test_several_kinds_come_together(tickbridge: Run, options: settings.Kafka) -> None:
    values = published(options, [trade("BTCUSDT", 1), gap("BTCUSDT"), trade("BTCUSDT", 2)])
    result = tickbridge(
        *("tail", "trade,gap", "--from", "earliest", "--count", "3"), **variables(options)
    )
    assert sorted(result.stdout_bytes.splitlines()) == sorted(values)


def test_a_table_has_a_header_and_every_digit(tickbridge: Run, options: settings.Kafka) -> None:
    published(options, [trade("BTCUSDT", 9, price="0.00001000"), trade("BTCUSDT", 10)])
    result = tickbridge(
        *("tail", "trade", "--from", "earliest", "--count", "2", "--table"), **variables(options)
    )
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["time", "symbol", "trade_id", "price", "volume", "side"]
    assert lines[0].split() == [
        *("2024-08-08", "23:54:14.087009", "BTCUSDT"),
        *("9", "0.00001000", "0.00100000", "buy"),
    ]


def test_a_table_of_several_kinds_names_each_value(
    tickbridge: Run, options: settings.Kafka
) -> None:
    published(options, [trade("BTCUSDT", 1), gap("BTCUSDT")])
    result = tickbridge(
        *("tail", "trade,gap", "--from", "earliest", "--count", "2", "--table"),
        **variables(options),
    )
    assert "trade         trade_id 1  price 61837.63000000" in result.stdout
    assert "gap           kind trade  first_id 1  last_id 2" in result.stdout


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
@given(data=st.data())
def test_every_event_has_a_line_that_a_terminal_can_show(kind: str, data: st.DataObject) -> None:
    event = decode_event(msgspec.json.encode(data.draw(events_of(EVENT_TYPES[kind]))))
    for kinds in ([kind], [kind, "gap"]):
        lines = list(EventTable(kinds).lines(event))
        assert all(line.isprintable() for line in lines)
        assert printable(event.symbol) in lines[-1]


def test_it_starts_at_a_time(tickbridge: Run, real_kafka: Kafka, unique: str) -> None:
    options = kafka_options(real_kafka, unique)
    asyncio.run(publish(options, [trade("BTCUSDT", 1)], at_their_time=True))
    asyncio.run(publish(options, [trade("BTCUSDT", 2)]))
    for begin in ("10m", "2024-08-09T00:00", "2024-08-09T02:00+02:00"):
        result = tickbridge(
            *("tail", "trade", "--from", begin, "--count", "1"), **variables(options)
        )
        assert b'"trade_id":2' in result.stdout_bytes


@pytest.mark.parametrize(
    "begin", ["yesterday", "10 minutes", "2026-13-01", "-5m", "1e9d", "9999999999d"]
)
def test_a_time_that_is_none_is_named(tickbridge: Run, begin: str) -> None:
    result = tickbridge("tail", "trade", f"--from={begin}")
    assert result.exit_code == 2
    assert "is no time" in result.stderr
