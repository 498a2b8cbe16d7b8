"""`schemas`: write, then check."""

from pathlib import Path

from bridge.core.model.events import EVENT_TYPES
from tests.cli.conftest import Run


def test_what_was_written_passes_the_check(tickbridge: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert tickbridge("schemas", "write", "--dir", str(folder)).exit_code == 0
    assert {path.stem for path in folder.iterdir()} == set(EVENT_TYPES)
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
    assert "quote.json differs from its event" in changed
    assert "order.json belongs to no event" in superfluous
