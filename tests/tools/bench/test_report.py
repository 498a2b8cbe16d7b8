"""The report, the page that shows it, the plots, and the file for a later comparison."""

from pathlib import Path

import pytest

from bridge.tools.bench import plots
from bridge.tools.bench.compare import compare
from bridge.tools.bench.errors import BenchRefused
from bridge.tools.bench.figures import FIGURES, STAGES
from bridge.tools.bench.report import (
    BEGIN,
    END,
    comparison,
    is_met,
    number,
    put_between_marks,
    report,
)
from bridge.tools.bench.results import Curve, Figure, read, write
from bridge.tools.bench.run import write_docs
from tests.support.bench import results


def test_measured_stands_beside_target_with_the_spread_of_its_runs() -> None:
    text = report(results(Figure("websockets.rate", [90_000.0, 114_000.0, 120_000.0])))
    assert "| ≥ 110,000 msg/s | 114,000 msg/s |  | 90,000 to 120,000 | 3 | yes |" in text


def test_the_ratios_of_a_run_stand_beside_its_figure_and_have_no_row() -> None:
    text = report(
        results(
            Figure("websockets.cpu", [6.0]),
            Figure("websockets.bare_ratio", [1.5]),
            Figure("peer.cpu_ratio", [0.1]),
        )
    )
    assert "| 6 µs | 1.50 x the bare calls, 0.100 x Benthos | 6 to 6 | 1 | yes |" in text
    assert "compared with the bare calls" not in text


def test_the_speed_of_the_machine_heads_the_table() -> None:
    found = results()
    found.floor_us = [0.40, 0.50, 0.42]
    assert "in 0.42 µs (0.40 to 0.50); the targets were set for" in report(found)


def test_a_missed_target_is_said_aloud() -> None:
    text = report(results(Figure("websockets.cpu", [12.25])))
    assert "| ≤ 8.50 µs | 12.25 µs |  | 12.25 to 12.25 | 1 | **no** |" in text


@pytest.mark.parametrize(
    ("key", "value", "met"),
    [
        ("websockets.rate", 110_000, "yes"),
        ("websockets.rate", 109_999, "no"),
        ("burst.lost", 0, "yes"),
        ("burst.lost", 1, "no"),
        ("burst.p99", 1, "no target"),
    ],
)
def test_a_target_is_met_when_it_is_reached(key: str, value: float, met: str) -> None:
    words = {True: "yes", False: "no", None: "no target"}
    assert words[is_met(Figure(key, [value]))] == met


def test_a_stage_stands_beside_its_floor() -> None:
    text = report(results(Figure("stage.kafka", [3.0]), Figure("floor.kafka", [1.5])))
    assert "| 3 µs | 1.50 µs | 2.00 x |" in text


def test_machine_versions_and_date_head_the_table() -> None:
    text = report(results())
    for part in ("2026-01-02 03:04 UTC", "a processor", "2 cores", "python 3.11", "usual"):
        assert part in text


def test_notes_follow_the_table() -> None:
    found = results()
    found.notes.append("picows: not measured")
    assert report(found).endswith("\n- picows: not measured\n")


def test_every_stage_has_a_figure_for_itself_and_its_floor() -> None:
    for name in STAGES:
        assert {f"stage.{name}", f"floor.{name}"} <= FIGURES.keys()


@pytest.mark.parametrize(
    ("value", "text"),
    [(104_123.4, "104,123"), (99.96, "99.96"), (9.314, "9.31"), (0.4118, "0.412"), (0.0, "0")],
)
def test_a_number_has_the_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text
    assert number(None) == "-"


def test_a_comparison_says_what_moved_and_from_what_day() -> None:
    before = results(Figure("websockets.rate", [100.0, 101.0]))
    now = results(Figure("websockets.rate", [200.0, 201.0]), processor="another")
    text = comparison(before, now, compare(before, now))
    assert "| 2026-01-02 | now |" in text
    assert "**better**" in text
    assert "another machine" in text


def test_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_between_marks(page, "new\n")
    put_between_marks(page, "newer\n")
    assert page.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["no marks\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(BenchRefused, match="no place for the table"):
        put_between_marks(page, "new")
    assert page.read_text() == text


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = results(Figure("websockets.rate", [1.0, 2.0]))
    found.curves.append(Curve("memory", "calm", [(0.0, 1.5)]))
    write(found, tmp_path)
    assert read(tmp_path / "results.json") == found


@pytest.mark.parametrize("text", [b"", b"[]", b'{"date": 3}', b"\xff"])
def test_a_file_without_results_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text)
    with pytest.raises(BenchRefused, match=r"results\.json holds no results: .*; name the"):
        read(path)


def test_a_plot_is_drawn_for_each_name_and_is_small(tmp_path: Path) -> None:
    curves = [
        Curve("memory", "busy", [(float(x), 50.0 + x % 7) for x in range(5_000)]),
        Curve("throughput", "websockets", [(1_000.0, 1_000.0), (2_000.0, 1_800.0)]),
        Curve("latency", "redis p50", []),
    ]
    drawn = plots.draw(curves, tmp_path)
    assert [path.name for path in drawn] == ["throughput.svg", "memory.svg"]
    assert all(0 < path.stat().st_size < 60_000 for path in drawn)
    before = [path.read_bytes() for path in drawn]
    assert [path.read_bytes() for path in plots.draw(curves, tmp_path)] == before


def test_a_thinned_line_keeps_its_peaks() -> None:
    points = [(float(x), 1.0) for x in range(10_000)]
    points[5_001] = (5_001.0, 99.0)
    thin = plots.thinned(points)
    assert len(thin) <= plots.MAX_POINTS
    assert (5_001.0, 99.0) in thin
    assert plots.thinned(points[:3]) == points[:3]


def test_a_page_gets_the_table_and_its_pictures(tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "performance.md"
    out.mkdir()
    out.joinpath("memory.svg").write_text("<svg/>")
    page.write_text(f"# Title\n{BEGIN}\n{END}\n")
    write_docs(results(), out, page)
    assert "![Resident memory](performance/memory.svg)" in page.read_text()
    assert (tmp_path / "performance" / "memory.svg").read_text() == "<svg/>"
