import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.support import exchange
from tests.support.journal import Journal, journal_kept
from tests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both ends of every connection live in the test: time may jump."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def journal() -> Iterator[Journal]:
    with journal_kept() as journal:
        yield journal


@pytest.fixture(autouse=True, params=exchange.TRANSPORTS)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What carries the connectors: every test of them runs on each."""
    transport: str = request.param
    monkeypatch.setattr(exchange, "transport", exchange.TRANSPORTS[transport])
    return transport
