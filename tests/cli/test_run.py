"""`run` and `demo`: their start, and their exit codes."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge.app.service import Service
from bridge.errors import FeedRefused, UndeliveredRecords
from tests.cli.conftest import Run

SYMBOLS = {"TICKBRIDGE_BINANCE__SYMBOLS": "BTCUSDT"}


@pytest.mark.parametrize(
    ("error", "code"),
    [(UndeliveredRecords(7), 3), (FeedRefused("HTTP 451", "look elsewhere"), 2)],
)
def test_the_services_end_is_the_exit_code(
    tickbridge: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    async def end(_: Service) -> None:
        raise error

    monkeypatch.setattr(Service, "run", end)
    result = tickbridge("run", **SYMBOLS)
    assert (result.exit_code, result.stdout) == (code, "")
    assert str(error) in result.stderr


def test_the_settings_are_checked_before_anything_runs(tickbridge: Run) -> None:
    result = tickbridge("run")
    assert result.exit_code == 2
    assert "binance.symbols" in result.stderr


def test_a_file_that_is_not_there_is_named(tickbridge: Run) -> None:
    result = tickbridge("run", "--config", "nowhere.yaml")
    assert (result.exit_code, "nowhere.yaml" in result.stderr) == (2, True)


def test_the_demo_gets_its_options(
    tickbridge: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @dataclass
    class DemoOptions:
        seconds: float | None
        captures: list[Path]
        symbols: list[str]
        plain: bool
        config: Path | None

    async def run_demo(options: DemoOptions) -> None:
        ran.append(options)

    ran: list[Any] = []
    module = ModuleType("bridge.tools.demo")
    vars(module).update(DemoOptions=DemoOptions, run_demo=run_demo)
    monkeypatch.setitem(sys.modules, "bridge.tools.demo", module)
    (capture := tmp_path / "capture").touch()
    result = tickbridge(
        *("demo", "--seconds", "2", "--capture", str(capture), "--symbols", "A,B", "--plain")
    )
    assert result.exit_code == 0
    assert ran == [DemoOptions(2.0, [capture], ["A", "B"], plain=True, config=None)]
