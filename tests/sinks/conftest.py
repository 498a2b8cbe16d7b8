import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.support.brokers import Choice
from tests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return both loops. A module marks the one it needs: virtual time if it fakes the server."""
    return {"real": asyncio.SelectorEventLoop, "virtual": VirtualTimeLoop}


@pytest.fixture
def finds_offsets_by_time(brokers: Choice) -> None:
    """Skip the test if the broker cannot find the offset of a time: the embedded one cannot."""
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that finds offsets by time; {brokers}")
