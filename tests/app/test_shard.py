"""The parts of a shard before it runs: its share of the buffers, and its folder."""

import shutil
from pathlib import Path

import pytest

from bridge.app.shard import Shard
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.shard import WHOLE, ShardId
from bridge.core.records.record import Router
from bridge.errors import SettingsError
from bridge.monitoring.status import Status
from bridge.sinks.outbox.chunk_store import FILE, ChunkStore
from tests.app.test_service import settings_for
from tests.support.journal import journal_kept
from tests.support.sinks import trade


def shard_with(folder: Path, shard: ShardId = WHOLE) -> Shard:
    cluster = {"shards": shard.count}
    settings = settings_for("x:1", "redis://x:1/0", "t", data_dir=str(folder), cluster=cluster)
    return Shard(shard, settings, Status([]))


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


def test_each_shard_has_a_folder_of_its_own(tmp_path: Path) -> None:
    shards = [shard_with(tmp_path, ShardId(number, 2)) for number in range(2)]
    assert sorted(path.parent.name for path in tmp_path.glob(f"*/{FILE}")) == [
        *("shard-1-of-2", "shard-2-of-2")
    ]
    for shard in shards:
        shard.sinks.kafka.close()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_records_on_disk_of_another_number_of_shards_are_an_error_that_names_both(
    before: int, after: int, tmp_path: Path
) -> None:
    """The shard that has them could not deliver them."""
    earlier, shard = shard_with(tmp_path, ShardId(0, before)), ShardId(after - 1, after)
    earlier.sinks.kafka.close()
    shard_with(tmp_path, shard).sinks.kafka.close()  # without records all is well

    earlier = shard_with(tmp_path, ShardId(0, before))
    router = Router([parse_stream("btcusdt@trade")], "t.{message_type}")
    earlier.sinks.kafka.push([router.record(trade("binance.spot", 1))], {})
    earlier.sinks.kafka.close()
    with pytest.raises(SettingsError) as caught:
        shard_with(tmp_path, shard)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("cluster.shards", str(after))
    assert "1 records wait in" in problem.what
    assert problem.remedy.startswith(f"start once with cluster.shards: {before}")


def test_the_shards_share_the_bounds_of_the_buffers() -> None:
    settings = settings_for("x:1", "redis://x:1/0", "t", cluster={"shards": 3})
    whole, third = (Shard(each, settings, Status([])).sinks for each in (WHOLE, ShardId(1, 3)))
    for name in ("outbox_limit_bytes", "queue_limit_events"):
        limits = (
            {**whole.kafka.limits, **whole.redis.limits},
            {
                **third.kafka.limits,
                **third.redis.limits,
            },
        )
        assert limits[1][name] == limits[0][name] // 3
