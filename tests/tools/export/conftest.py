"""Topics that each test has for itself, a folder, and exports to it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bridge import settings
from bridge.brokers.kafka_reader import OnProgress
from bridge.client.time_range import TimeRange
from bridge.tools.export.manifest import Manifest, Options
from bridge.tools.export.run import export_topics
from tests.support.brokers import Kafka
from tests.support.publishing import kafka_options

Export = Callable[..., Awaitable[Manifest]]
# After all events of `tests/support/publishing.py`.
ALL = TimeRange(None, 1_800_000_000_000_000)


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(kafka, unique)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def export(options: settings.Kafka, folder: Path) -> Export:
    """Return a function that exports trades to the folder, and returns the manifest."""

    async def run(
        *,
        times: TimeRange = ALL,
        on_progress: OnProgress = lambda _read, _remaining: None,
        **changes: object,
    ) -> Manifest:
        given = {"message_types": ["trade"], "begin": "earliest", "end": None, "symbols": []}
        given |= {"format": "parquet", "kafka": ["somewhere"], "topic": options.topic}
        wanted = Options(**given | changes)  # type: ignore[arg-type]
        manifest, _ = await export_topics(options, wanted, times, folder, on_progress=on_progress)
        return manifest

    return run
