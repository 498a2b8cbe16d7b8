"""`audit`: a table for people, JSON for scripts, and exit code 1 if there are findings."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from bridge import settings
from bridge.tools.embedded import free_port
from tests.cli.conftest import Run
from tests.support.audit import event
from tests.support.audit_publishing import gap_value, publish, trade_values
from tests.support.capture_reading import read_capture


def published(options: settings.Kafka, kind: str, values: list[bytes]) -> None:
    asyncio.run(publish(options, kind, values))


@pytest.mark.parametrize("seed", [1, 2])
def test_lines_deleted_repeated_and_swapped_in_a_capture_are_found_exactly(
    captures: Path, options: settings.Kafka, run: Run, seed: int
) -> None:
    rows = read_capture(captures / "spot" / "btcusdt_20240808.gz")["trade"]
    changed, deleted, repeated, swapped = _mutated(rows, random.Random(seed))
    published(options, "trade", [json.dumps({**row, "received": 1}).encode() for row in changed])
    result = run("--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    (stream,) = report["symbols"]
    assert (stream["first_id"], stream["last_id"]) == (3735683259, 3735693015)
    assert [r["first_id"] for r in stream["missing"]["listed"]] == deleted
    assert stream["missing"]["ids"] == len(deleted)
    assert [place["id"] for place in stream["repeated"]["listed"]] == repeated
    assert [place["id"] for place in stream["out_of_order"]["listed"]] == swapped
    whats = [finding["what"] for finding in report["findings"]]
    assert whats == ["missing", "repeated", "out_of_order"]


def _mutated(
    rows: list[dict[str, Any]], chance: random.Random
) -> tuple[list[dict[str, Any]], list[int], list[int], list[int]]:
    """Delete, repeat and swap seven rows each; return the new rows and the ids of each group."""
    spots = chance.sample(range(10, len(rows) - 10, 5), 21)
    deleted, repeated, swapped = (sorted(spots[n::3]) for n in range(3))
    order = list(range(len(rows)))
    for spot in swapped:
        order[spot], order[spot + 1] = spot + 1, spot
    order = [i for i in order if i not in deleted for _ in range(1 + (i in repeated))]
    gone, twice, moved = (
        [rows[i]["trade_id"] for i in part] for part in (deleted, repeated, swapped)
    )
    return [rows[i] for i in order], gone, twice, moved


@pytest.mark.parametrize("kind", ["trade", "quote", "book_delta"])
def test_a_capture_as_it_was_recorded_is_proved(
    captures: Path, options: settings.Kafka, run: Run, kind: str
) -> None:
    rows = read_capture(captures / "spot" / "btcusdt_20240808.gz")[kind]
    published(options, kind, [json.dumps({**row, "received": 1}).encode() for row in rows])
    result = run("--kind", kind)
    assert result.exit_code == 0, result.stdout
    assert f"{len(rows):,} records" in result.stdout
    assert "PROVEN" in result.stdout
    assert ("a loss does not show" in result.stdout) == (kind == "quote")


def test_the_table_shows_what_was_announced_and_only_findings_have_lines(
    options: settings.Kafka, run: Run
) -> None:
    published(options, "trade", trade_values(1, 2, 9))
    published(options, "gap", [gap_value(3, 8, "lost")])
    result = run()
    assert result.exit_code == 0
    head, row, summary, verdict = result.stdout.splitlines()
    names = ["missing", "announced", "late", "repeated", "out of order"]
    assert head.endswith("  ".join(names))
    assert row.split()[-len(names) :] == ["0", "6", "0", "0", "0"]
    assert summary.endswith("3 records, 1 symbol, 1 gap event")
    assert verdict.startswith("PROVEN")


def test_a_finding_is_a_line_and_exit_1(options: settings.Kafka, run: Run) -> None:
    published(options, "trade", trade_values(1, 2, 9, 9))
    result = run()
    assert result.exit_code == 1
    assert "BTCUSDT: 6 missing, not announced: 3-8\n" in result.stdout
    assert "BTCUSDT: 1 repeated: 9 at offset 3\n" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("NOT PROVEN")


def test_the_verdict_names_restarts_of_the_ids(options: settings.Kafka, run: Run) -> None:
    published(options, "trade", trade_values(10**6, 10**6 + 1, 1, 2))
    published(
        options,
        "gap",
        [
            event(
                "gap",
                kind="trade",
                first_id=None,
                last_id=None,
                to_time=None,
                cause="ids_restarted",
                state="lost",
            )
        ],
    )
    result = run()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].endswith(
        "no repeats; except across 1 announced restart of the ids (BTCUSDT)"
    )


def test_of_many_symbols_those_with_findings_come_first_and_the_rest_is_counted(
    options: settings.Kafka, run: Run
) -> None:
    symbols = [f"S{number}USDT" for number in range(40)]
    values = [event("trade", symbol, trade_id=1) for symbol in symbols]
    published(options, "trade", [*values, event("trade", "S39USDT", trade_id=3)])
    lines = run("--symbol", "S39USDT").stdout.splitlines()
    assert lines[1].startswith("S39USDT")
    lines = run().stdout.splitlines()
    assert any("10 more, 10 of them with findings" in line for line in lines)


def test_where_no_terminal_is_no_progress_is_drawn(options: settings.Kafka, run: Run) -> None:
    published(options, "trade", trade_values(1))
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["verdict"] == "ok"


@pytest.mark.parametrize(
    ("kind", "hint"), [("trad", "did you mean 'trade'"), ("gap", "gap events have no order")]
)
def test_a_kind_that_cannot_be_audited_is_wrong_usage(
    tickbridge: Run, kind: str, hint: str
) -> None:
    result = tickbridge("audit", "--kind", kind)
    assert (result.exit_code, hint in " ".join(result.stderr.replace("│", "").split())) == (2, True)


def test_an_absent_topic_is_exit_1(run: Run) -> None:
    result = run()
    assert result.exit_code == 1
    assert "Kafka has no topic" in result.stderr


def test_an_absent_broker_is_one_line_and_exit_1(tickbridge: Run) -> None:
    servers = f"localhost:{free_port()}"
    result = tickbridge("audit", "--kafka", servers)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"Kafka at {servers} cannot be reached" in line
