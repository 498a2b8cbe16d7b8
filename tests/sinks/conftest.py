import asyncio
from collections.abc import Callable, Mapping

from tests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return both loops. A module marks the one it needs: virtual time if it fakes the server."""
    return {"real": asyncio.SelectorEventLoop, "virtual": VirtualTimeLoop}
