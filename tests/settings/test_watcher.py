"""Every kind of change to the settings file is noticed, and nothing else is."""

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.settings import watcher
from bridge.settings.watcher import SettingsFile
from tests.support.config_map import mount, put
from tests.support.journal import journal_kept

TEXT = "binance: {symbols: [BTCUSDT]}\n"
OTHER = "binance: {symbols: [ETHUSDT]}\n"
TIMEOUT_S = 10


@pytest.fixture(autouse=True)
def hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


class Noticed(asyncio.Event):
    """An event that each notice sets; `count` is the number of notices."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def notice(self) -> None:
        self.count += 1
        self.set()

    async def next(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self.wait()
        self.clear()


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[tuple[SettingsFile, Noticed]]:
    noticed = Noticed()
    with SettingsFile(path) as file, file.noticed(noticed.notice):
        yield file, noticed


def overwrite(path: Path) -> None:
    path.write_text(OTHER)


def replace(path: Path) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(OTHER)
    beside.rename(path)


@pytest.mark.parametrize("change", [overwrite, replace])
async def test_a_changed_file_is_read_whole(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "tickbridge.yaml"
    path.write_text(TEXT)
    async with watched(path) as (file, noticed):
        assert file.load().binance.symbols == ["BTCUSDT"]
        change(path)
        await noticed.next()
        assert (await file.read()).binance.symbols == ["ETHUSDT"]
        assert noticed.count == 1


async def test_a_mounted_config_map_is_read_when_the_kubelet_has_changed_it(tmp_path: Path) -> None:
    async with watched(mount(tmp_path, TEXT)) as (file, noticed):
        for number, symbol in enumerate(("ETHUSDT", "BNBUSDT")):
            put(tmp_path, f"..2026_02_0{number}", TEXT.replace("BTCUSDT", symbol))
            await noticed.next()
            assert (await file.read()).binance.symbols == [symbol]
        assert noticed.count == 2


async def test_a_change_between_loading_and_running_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "tickbridge.yaml"
    path.write_text(TEXT)
    noticed = Noticed()
    with SettingsFile(path) as file:
        file.load()
        overwrite(path)
        with file.noticed(noticed.notice):
            await noticed.next()


async def test_other_files_in_its_folder_are_not_its_business(tmp_path: Path) -> None:
    path = tmp_path / "tickbridge.yaml"
    path.write_text(TEXT)
    async with watched(path) as (_, noticed):
        (tmp_path / "tickbridge.yaml.swp").write_text("x")
        path.read_text()
        path.chmod(0o600)
        overwrite(path)
        await noticed.next()
        assert noticed.count == 1


async def test_sighup_asks_for_the_settings_again_even_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noticed = Noticed()
    with SettingsFile() as file, file.noticed(noticed.notice):
        os.kill(os.getpid(), signal.SIGHUP)
        await noticed.next()


async def test_sighup_before_and_after_the_bridge_runs_ends_nothing(tmp_path: Path) -> None:
    with SettingsFile(tmp_path / "tickbridge.yaml") as file:
        os.kill(os.getpid(), signal.SIGHUP)
        with file.noticed(lambda: None):
            pass
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (AttributeError("inotify_init1"), "this system has no inotify"),
    ],
    ids=["full", "no Linux"],
)
async def test_a_folder_that_cannot_be_watched_is_said_and_sighup_remains(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(watcher, "INotify", refuse)
    path = tmp_path / "tickbridge.yaml"
    path.write_text(TEXT)
    with journal_kept() as journal:
        async with watched(path) as (file, noticed):
            assert file.load().binance.symbols == ["BTCUSDT"]
            (entry,) = journal.named("settings_not_watched")
            assert entry["file"] == str(path)
            assert said in entry["error"]
            assert "SIGHUP" in entry["remedy"]
            os.kill(os.getpid(), signal.SIGHUP)
            await noticed.next()


async def test_a_folder_that_goes_away_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    path = folder / "tickbridge.yaml"
    path.write_text(TEXT)
    with journal_kept() as journal:
        async with watched(path):
            path.unlink()
            folder.rmdir()
            async with asyncio.timeout(TIMEOUT_S):
                (entry,) = await journal.until("settings_not_watched")
    assert "no longer exists" in entry["error"]
