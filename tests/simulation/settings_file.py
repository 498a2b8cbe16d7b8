"""The settings file in memory: it changes, and the running bridge is notified."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from bridge.settings import Settings

READ_S = 0.01
SYMBOLS = ("AUSDT", "BUSDT", "RAREUSDT")
# Each matches one of them.
PATTERNS = ("A*", "B*", "RARE*")


def symbol_of(name: str) -> str:
    """Return the symbol that a setting names, or that its pattern matches."""
    return dict(zip(PATTERNS, SYMBOLS, strict=True)).get(name, name)


class SettingsFile:
    """The file. `whole` names all symbols and streams, `settings` may name fewer.

    `left_out` has the symbols whose trades were left out at some time.
    """

    def __init__(self, random: Random, whole: Settings) -> None:
        self.settings = self._whole = whole
        self._random = random
        self._loaded = whole
        self._notices: list[Callable[[], None]] = []
        self.left_out: set[str] = set()

    def load(self, name: str | None) -> Settings:
        """Return the settings of a bridge with this name in the group."""
        self._loaded = self.settings
        cluster = self.settings.cluster.model_copy(update={"instance_id": name})
        return self.settings.model_copy(update={"cluster": cluster})

    async def read(self) -> Settings:
        await asyncio.sleep(READ_S)
        return self.settings

    @contextmanager
    def noticed(self, notice: Callable[[], None]) -> Iterator[None]:
        self._notices.append(notice)
        if self.settings is not self._loaded:
            notice()
        try:
            yield
        finally:
            self._notices.remove(notice)

    def leave_some_out(self) -> None:
        """Remove a symbol, or a stream of all symbols."""
        key = self._random.choice(("symbols", "streams"))
        names = list(getattr(self._whole.binance, key))
        name = self._random.choice(names)
        names.remove(name)
        self.left_out.update({"trade": SYMBOLS}.get(name, {symbol_of(name)}))
        self._write(self._whole.binance.model_copy(update={key: names}))

    def set_shards(self, count: int) -> None:
        """Change the number of shards, for bridges that start from now on."""
        cluster = self._whole.cluster.model_copy(update={"shards": count})
        self._whole = self._whole.model_copy(update={"cluster": cluster})
        self._write(self.settings.binance)

    def notify(self) -> None:
        """Let the bridge read the settings again, as SIGHUP does."""
        for notice in self._notices:
            notice()

    def name_all(self) -> None:
        self._write(self._whole.binance)

    def _write(self, binance: object) -> None:
        self.settings = self._whole.model_copy(update={"binance": binance})
        self.notify()
