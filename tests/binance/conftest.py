import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.support import exchange
from tests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return virtual time only: a test has both ends of every connection, so time may jump."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(autouse=True, params=exchange.TRANSPORTS)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run every test on each transport."""
    transport: str = request.param
    monkeypatch.setattr(exchange, "transport", exchange.TRANSPORTS[transport])
    return transport
