"""`bench`: its messages if it cannot measure. `.ci/run` shows that it can."""

import sys
from pathlib import Path

import pytest

from bridge.tools.bench import brokers, scenarios
from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.profiles import QUICK
from bridge.tools.bench.report import report
from bridge.tools.bench.results import Curve
from bridge.tools.bench.run import Options, measure
from bridge.tools.bench.scenario import Bench, Outcome, Scenario
from bridge.tools.bench.scenarios import SCENARIOS
from tests.cli.conftest import Run


def test_an_unknown_scenario_gets_the_list(tickbridge: Run) -> None:
    result = tickbridge("bench", "--scenario", "speed", TERMINAL_WIDTH="200")
    assert result.exit_code == 2
    assert "unknown scenario 'speed'" in result.stderr
    assert all(name in result.stderr for name in SCENARIOS)


def test_quick_and_long_contradict_each_other(tickbridge: Run) -> None:
    result = tickbridge("bench", "--quick", "--long")
    assert (result.exit_code, "contradict" in result.stderr) == (2, True)


def test_a_file_to_compare_with_is_read_before_anything_is_measured(
    tickbridge: Run, tmp_path: Path
) -> None:
    (path := tmp_path / "old.json").write_text("{")
    result = tickbridge("bench", "--compare", str(path))
    assert (result.exit_code, "old.json holds no results" in result.stderr) == (2, True)
    result = tickbridge("bench", "--compare", str(tmp_path / "none.json"))
    assert (result.exit_code, "none.json cannot be read" in result.stderr) == (2, True)


def test_a_page_without_a_place_for_the_table_is_refused_before_anything_is_measured(
    tickbridge: Run, tmp_path: Path
) -> None:
    (page := tmp_path / "page.md").write_text("# Performance\n")
    result = tickbridge("bench", "--docs", str(page))
    assert result.exit_code == 2
    assert "page.md has no place for the table; put these two lines in it" in result.stderr


def test_without_docker_it_says_what_to_give(
    tickbridge: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = tickbridge("bench", "--quick")
    assert result.exit_code == 2
    assert "no docker on PATH" in result.stderr
    assert "--kafka HOST:PORT and --redis redis://HOST:PORT/0" in result.stderr


def test_a_docker_that_fails_is_quoted(
    tickbridge: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    result = tickbridge("bench", "--quick")
    assert result.exit_code == 2
    assert "docker run: Cannot connect to the Docker daemon; start a Docker" in result.stderr


@pytest.mark.parametrize("library", ["matplotlib", "confluent_kafka"])
def test_without_a_library_it_names_the_extra(
    library: str, tickbridge: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    result = tickbridge("bench", "--quick")
    assert (result.exit_code, ".[bench]" in result.stderr) == (2, True)


def test_a_password_is_not_shown_where_redis_does_not_answer(
    tickbridge: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_url: str) -> str:
        raise ValueError("no")

    monkeypatch.setattr(brokers, "redis_version", refused)
    url = "redis://user:secret@127.0.0.1:1/0"
    result = tickbridge("bench", "--quick", "--kafka", "127.0.0.1:1", "--redis", url)
    assert result.exit_code == 2
    assert "no Redis at redis://127.0.0.1:1/0" in result.stderr
    assert "secret" not in result.stderr


async def test_what_is_not_installed_is_said_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: Bench) -> Outcome:
        raise AssertionError("measured without its library")

    monkeypatch.setitem(scenarios.SCENARIOS, "picows", Scenario("fast", never, needs="no_such_one"))
    monkeypatch.setattr("bridge.tools.bench.run.open_brokers", _NoBrokers)
    said: list[str] = []
    found = await measure(Options(QUICK, ["picows"], [], None, None), said.append)
    assert found.figures == []
    assert found.notes == said
    assert "no_such_one is not installed; pip install '.[fast]'" in said[0]


async def test_a_run_that_fails_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([1.0, None, 3.0])

    async def now_and_then(_: Bench) -> Outcome:
        if (number := next(numbers)) is None:
            raise BenchFailed("the process `bridge run` has ended with 1")
        return Outcome({"start.redis": number})

    monkeypatch.setitem(scenarios.SCENARIOS, "start", Scenario("first tick", now_and_then))
    monkeypatch.setattr("bridge.tools.bench.run.open_brokers", _NoBrokers)
    form = QUICK._replace(runs=3)
    found = await measure(Options(form, ["start"], [], None, None), lambda _line: None)
    assert [figure.runs for figure in found.figures] == [[1.0, 3.0]]
    assert found.failures == ["start, run 2: the process `bridge run` has ended with 1"]
    assert "- failed: start, run 2: the process `bridge run` has ended with 1" in report(found)


async def test_what_is_drawn_is_the_run_that_is_nearest_to_the_medians(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Draw neither a run that lacks a figure nor an outlier."""
    runs = iter([{"a": 100.0}, {"a": 99.0, "b": 10.0}, {"a": 150.0, "b": 7.0}])

    async def measured(_: Bench) -> Outcome:
        figures = next(runs)
        return Outcome(figures, [Curve("memory", "calm", [(0.0, figures["a"])])])

    monkeypatch.setitem(scenarios.SCENARIOS, "start", Scenario("first tick", measured))
    monkeypatch.setattr("bridge.tools.bench.run.open_brokers", _NoBrokers)
    form = QUICK._replace(runs=3)
    found = await measure(Options(form, ["start"], [], None, None), lambda _line: None)
    assert [curve.points for curve in found.curves] == [[(0.0, 99.0)]]


class _NoBrokers:
    """Replaces the brokers of a scenario."""

    def __init__(self, *_: object) -> None:
        self.brokers = brokers.Brokers("", "", "none", "none")

    async def __aenter__(self) -> brokers.Brokers:
        return self.brokers

    async def __aexit__(self, *_: object) -> None:
        pass
