"""The log of the bridge, for tests to read and to wait for."""

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
import structlog


class Journal:
    """A structlog processor that keeps every entry and prints none."""

    def __init__(self) -> None:
        self.entries: list[Mapping[str, Any]] = []
        self._written = asyncio.Event()

    def __call__(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> NoReturn:
        self.entries.append(entry)
        self._written.set()
        raise structlog.DropEvent

    def named(self, event: str) -> list[Mapping[str, Any]]:
        return [entry for entry in self.entries if entry["event"] == event]

    async def until(self, event: str, count: int = 1) -> list[Mapping[str, Any]]:
        """Wait for `count` entries of this name, and return them."""
        while len(self.named(event)) < count:
            self._written.clear()
            await self._written.wait()
        return self.named(event)


async def logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Wait until the standard library has logged these words."""
    async with asyncio.timeout(60):
        while words not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)


@contextmanager
def journal_kept() -> Iterator[Journal]:
    journal = Journal()
    before = structlog.get_config()
    structlog.configure(processors=[journal])
    try:
        yield journal
    finally:
        structlog.configure(**before)
