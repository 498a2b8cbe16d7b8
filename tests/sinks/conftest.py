import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.support.journal import Journal, journal_kept
from tests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module marks which it needs: virtual time where both ends live in the test."""
    return {"real": asyncio.SelectorEventLoop, "virtual": VirtualTimeLoop}


@pytest.fixture
def journal() -> Iterator[Journal]:
    with journal_kept() as journal:
        yield journal
