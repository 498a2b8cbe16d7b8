"""`schemas`: print, write, then check."""

from pathlib import Path

import pytest

from bridge.core.model.events import EVENT_TYPES
from tests.cli.conftest import Run

SCHEMAS = Path(__file__).parents[2] / "schemas"


def test_what_was_written_passes_the_check(tickbridge: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert tickbridge("schemas", "write", "--dir", str(folder)).exit_code == 0
    assert {path.stem for path in folder.iterdir()} == {*EVENT_TYPES, "http_status"}
    assert tickbridge("schemas", "check", "--dir", str(folder)).exit_code == 0


def test_differences_are_named_and_exit_with_1(tickbridge: Run, tmp_path: Path) -> None:
    tickbridge("schemas", "write", "--dir", str(tmp_path))
    (tmp_path / "trade.json").unlink()
    (tmp_path / "quote.json").write_text("{}")
    (tmp_path / "order.json").write_text("{}")
    result = tickbridge("schemas", "check", "--dir", str(tmp_path))
    assert result.exit_code == 1
    missing, changed, superfluous = result.stderr.splitlines()
    assert "trade.json is missing" in missing
    assert "quote.json differs from the code" in changed
    assert "order.json belongs to nothing" in superfluous


@pytest.mark.parametrize("name", ["trade", "http_status"])
def test_one_schema_is_printed_as_its_file_has_it(tickbridge: Run, name: str) -> None:
    result = tickbridge("schemas", "print", name)
    assert result.exit_code == 0
    assert result.stdout == (SCHEMAS / f"{name}.json").read_text()


def test_a_name_without_a_schema_is_an_error_with_those_that_have_one(tickbridge: Run) -> None:
    result = tickbridge("schemas", "print", "order")
    assert result.exit_code == 2
    assert "'order' has no schema" in result.stderr
    assert "trade" in result.stderr
