import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.journal import Journal, journal_kept
from tests.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both ends of every connection live in the test: time may jump."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def journal() -> Iterator[Journal]:
    with journal_kept() as journal:
        yield journal
