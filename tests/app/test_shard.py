"""The folder of a shard for records on disk."""

import shutil
from pathlib import Path

import pytest

from bridge.app.shard import Shard
from bridge.core.model.shard import WHOLE
from bridge.errors import SettingsError
from bridge.monitoring.status import Status
from bridge.sinks.outbox.chunk_store import FILE, ChunkStore
from tests.app.test_service import settings_for
from tests.support.journal import journal_kept


def shard_with(folder: Path) -> Shard:
    settings = settings_for("x:1", "redis://x:1/0", "t", data_dir=str(folder))
    return Shard(WHOLE, settings, Status([]))


def test_a_folder_that_does_not_exist_is_created(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shard = shard_with(folder)
    assert (folder / FILE).exists()
    shard.sinks.kafka.close()


@pytest.mark.parametrize(("free", "told"), [(2**32 - 1000, []), (2**32 - 1001, [2**32 - 1])])
def test_a_disk_too_full_for_the_file_is_told(
    free: int,
    told: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "of_the_last_run").write_bytes(b"x" * 1000)
    disk = shutil.disk_usage(tmp_path)._replace(total=2**33, free=free)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    with journal_kept() as journal:
        shard_with(tmp_path).sinks.kafka.close()
    assert [entry["room_bytes"] for entry in journal.named("spill_room_short")] == told


def test_a_folder_in_use_is_an_error_of_the_settings(tmp_path: Path) -> None:
    spill = ChunkStore(tmp_path, 2**30)
    with pytest.raises(SettingsError, match=r"data_dir = .*in use by another bridge; give each"):
        shard_with(tmp_path)
    spill.close()


def test_a_folder_that_cannot_hold_the_file_is_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(SettingsError, match=r"data_dir = .*cannot be used .*; name a folder"):
        shard_with(tmp_path)
