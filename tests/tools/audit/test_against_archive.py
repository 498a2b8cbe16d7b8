"""The topic of a day against the exchange's own archive, on a real Kafka."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bridge import settings
from bridge.core.model.events import Event, Gap, Trade
from bridge.core.model.stream import SPOT
from bridge.errors import SinkUnavailable
from bridge.tools.audit.against_archive import audit_against
from bridge.tools.audit.archive import Archive, BadArchive
from bridge.tools.audit.certificate import Certificate
from tests.cli.conftest import Run
from tests.support.brokers import Kafka
from tests.support.publishing import kafka_options, publish
from tests.tools.audit.test_archive import write

TIME_US = 1_795_824_000_000_000  # 2026-11-28 begins
IDS = range(100, 120)


def trade(number: int, symbol: str = "BTCUSDT") -> Trade:
    time = TIME_US + number
    price, volume = f"{number}.50000000", "0.10000000"
    return Trade(SPOT, symbol, time, time, "websocket", number, price, volume, "sell")


def row(number: int) -> str:
    return f"{number},{number}.50000000,0.10000000,1.0,{TIME_US + number},True,True"


def gap(first: int, last: int, state: str) -> Gap:
    head = (SPOT, "BTCUSDT", None, TIME_US, "websocket", "trade")
    return Gap(*head, first, last, None, None, "closed", state)  # type: ignore[arg-type]


@pytest.fixture
def options(real_kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(real_kafka, unique)


async def compare(
    options: settings.Kafka, folder: Path, events: Iterable[Event], rows: Iterable[str]
) -> Certificate:
    await publish(options, list(events), at_their_time=True)
    return await audit_against(options, Archive(write(folder, *rows)))


async def test_a_topic_that_agrees_is_certified(options: settings.Kafka, tmp_path: Path) -> None:
    others = [trade(number, "ETHUSDT") for number in IDS]
    found = await compare(options, tmp_path, [*map(trade, IDS), *others], map(row, IDS))
    assert found.verdict == "equal"
    assert (found.rows, found.equal, found.first_id, found.last_id) == (20, 20, 100, 119)
    assert found.checksum_verified
    assert len(found.sha256) == 64


async def test_each_difference_is_named(options: settings.Kafka, tmp_path: Path) -> None:
    events = [trade(number) for number in IDS if number not in {103, 104, 110}]
    events[10] = replace(events[10], price="7.1")
    changed = events[10].trade_id
    rows = [row(number) for number in IDS if number != 118]
    found = await compare(options, tmp_path, [gap(110, 110, "lost"), *events, events[-1]], rows)
    assert found.verdict == "different"
    assert found.equal == 20 - 3 - 1 - 1
    assert [(r.first_id, r.last_id) for r in found.missing.listed] == [(103, 104)]
    assert [(r.first_id, r.announced) for r in found.announced.listed] == [(110, "lost")]
    assert [(r.first_id, r.last_id) for r in found.not_in_archive.listed] == [(118, 118)]
    assert (found.different, found.repeated) == (1, 1)
    (difference,) = found.differences
    assert difference.id == changed
    assert difference.topic[0] == "7.1"
    assert difference.archive[0] == f"{changed}.5"


@pytest.mark.parametrize(
    "wrong", [{"price": "1"}, {"volume": "1"}, {"side": "buy"}, {"timestamp": TIME_US + 7}]
)
async def test_every_field_counts(
    options: settings.Kafka, tmp_path: Path, wrong: dict[str, object]
) -> None:
    found = await compare(options, tmp_path, [replace(trade(100), **wrong)], [row(100)])
    assert (found.equal, found.different) == (0, 1)


async def test_what_gap_events_announced_is_no_difference(
    options: settings.Kafka, tmp_path: Path
) -> None:
    events = [trade(100), gap(101, 102, "lost"), trade(103)]
    found = await compare(options, tmp_path, events, map(row, range(100, 104)))
    assert (found.verdict, found.announced.ids) == ("equal", 2)


async def test_what_was_announced_as_filled_must_be_there(
    options: settings.Kafka, tmp_path: Path
) -> None:
    events = [trade(100), gap(101, 101, "filled"), trade(102)]
    found = await compare(options, tmp_path, events, map(row, range(100, 103)))
    assert (found.verdict, found.missing.ids) == ("different", 1)


async def test_an_absent_topic_is_named(options: settings.Kafka, tmp_path: Path) -> None:
    with pytest.raises(SinkUnavailable, match=r"no topic \S+trade"):
        await audit_against(options, Archive(write(tmp_path, row(100))))


async def test_an_empty_archive_is_refused(options: settings.Kafka, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="has no rows"):
        await audit_against(options, Archive(write(tmp_path)))


def test_the_command_prints_and_writes_the_certificate(
    options: settings.Kafka, tmp_path: Path, run: Run
) -> None:
    asyncio.run(publish(options, list(map(trade, IDS)), at_their_time=True))
    path, certificate = write(tmp_path, *map(row, IDS)), tmp_path / "certificate.json"
    result = run("--archive", str(path), "--certificate", str(certificate))
    assert result.exit_code == 0, result.stderr
    assert "20 of 20 are equal in every field" in result.stdout
    assert "EQUAL to the archive of 2026-11-28 in every id and every field" in result.stdout
    written = json.loads(certificate.read_text())
    assert (written["verdict"], written["equal"]) == ("equal", 20)
    assert written == json.loads(run("--archive", str(path), "--json").stdout)


def test_a_difference_is_exit_code_1_and_named(
    options: settings.Kafka, tmp_path: Path, run: Run
) -> None:
    events = [replace(trade(100), price="1.5"), trade(101), trade(102)]
    asyncio.run(publish(options, events, at_their_time=True))
    path = write(tmp_path, *map(row, range(100, 105)), with_checksum=False)
    result = run("--archive", str(path))
    assert result.exit_code == 1
    for words in (
        "NO CHECKSUM FILE",
        "2 missing in the topic, not announced: 103-104",
        "1.5 0.1 1795824000000100 sell, archive 100.5 0.1 1795824000000100 sell",
        "NOT EQUAL",
    ):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--certificate", "x.json"), "needs --archive"),
        (("--archive", "BTCUSDT-trades-2026-11-28.zip"), "No such file"),
        (
            ("--archive", "x.zip", "--certificate", "nowhere/x.json"),
            "folder nowhere does not exist",
        ),
        (("--archive", "trades.csv"), "is not named like a daily archive"),
        (("--archive", "http://localhost:1/BTCUSDT-trades-2026-11-28.zip"), "http://localhost:1/"),
    ],
)
def test_a_wrong_archive_is_an_error_that_names_it(
    tickbridge: Run, arguments: tuple[str, ...], words: str
) -> None:
    result = tickbridge("audit", *arguments)
    assert result.exit_code != 0
    assert words in result.stderr
