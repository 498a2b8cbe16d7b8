"""A Redis in memory that does what `sinks/redis/latest.lua` does, and may be away or full."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from random import Random
from typing import Any

from redis import exceptions

from bridge import settings
from bridge.sinks.redis.access import RIGHTS
from tests.simulation import process

Reply = tuple[int, int, bytes, list[int], bytes, list[int]]


class RedisServer:
    """The server. `loses` is the probability that a call fails, before or after its execution.

    While `is_full`, it keeps no values, and of `mistyped` keys it never does. `calls` counts the
    calls under way. `published` has all messages.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.loses = 0.0
        self.is_full = self.is_away = False
        self.mistyped: set[str] = set()
        self.calls = 0
        self.published: list[tuple[str, bytes]] = []
        self.hashes: defaultdict[str, dict[str, str]] = defaultdict(dict)
        # The keys that expire: each value and when it does.
        self.expiring: dict[str, tuple[str, float]] = {}

    def connect(self, options: settings.Redis, _on_packed: object) -> "Client":
        """Replace `bridge.sinks.redis.sink.connect`."""
        return Client(self, options)

    def keep(self, key: str, value: str, expiry_s: float) -> None:
        """Set a key that expires."""
        self.expiring[key] = value, asyncio.get_running_loop().time() + expiry_s

    def get(self, key: str) -> str | None:
        """Return a key that expires, while it is there."""
        value, end_s = self.expiring.get(key, ("", 0.0))
        return value if asyncio.get_running_loop().time() < end_s else None

    def run(self, keys: list[str], arguments: list[Any]) -> Reply:
        """Do what the script does, in the same order."""
        ahead, count = map(int, arguments[:2])
        done = stale = 0
        failure, failed = b"", []
        hashes = enumerate(keys[1:], 1)
        groups = arguments[2 + 2 * count :]
        for names, restart_us, values, text in zip(*[iter(groups)] * 4, strict=True):
            fields, contents = names.split("\n")[:-1], iter(text.splitlines())
            for number, key in islice(hashes, values):
                group = dict(zip(fields, islice(contents, len(fields)), strict=True))
                kept = self.hashes[key]
                before = int(kept.get(fields[0], -1))
                guards = before <= ahead if restart_us == 0 else True
                if restart_us:  # the last field is a time
                    younger_us = int(group[fields[-1]]) - int(kept.get(fields[-1], -1))
                    guards = younger_us <= restart_us
                if key in self.mistyped:
                    failure = b"WRONGTYPE (%s)" % key.encode()
                    failed.append(number)
                elif guards and before >= int(group[fields[0]]):
                    stale += 1
                elif self.is_full:
                    failure = b"OOM (%s)" % key.encode()
                    failed.append(number)
                else:
                    if fields[1] == "price":
                        self.hashes[keys[0]][key.partition(":")[2]] = group["price"]
                    self.hashes[key] |= group
                    done += 1
        messages = arguments[2 : 2 + 2 * count]
        self.published += zip(messages[::2], messages[1::2], strict=True)
        return done, stale, failure, failed, b"", []


class Client:
    def __init__(self, server: RedisServer, options: settings.Redis) -> None:
        self._server = server
        self._timeout_s = options.timeout_s
        self._process = process.current.get()

    async def set(self, key: str, value: str, *, px: int) -> None:
        await self._call(partial(self._server.keep, key, value, px / 1000))

    def register_script(self, script: str) -> Callable[..., Awaitable[Any]]:
        async def run(keys: list[str], args: list[Any]) -> Any:
            if script == RIGHTS:
                return b""
            return await self._call(partial(self._server.run, keys, args))

        return run

    async def aclose(self) -> None:
        pass

    async def _call(self, command: Callable[[], Any]) -> Any:
        self._server.calls += 1
        try:
            return await self._ask(command)
        finally:
            self._server.calls -= 1

    async def _ask(self, command: Callable[[], Any]) -> Any:
        server = self._server
        await process.pause(self._process, server.random.uniform(0.0005, 0.01))
        if server.is_away:
            await asyncio.sleep(self._timeout_s)
            raise exceptions.TimeoutError("away")
        is_lost = server.random.random() < server.loses
        if is_lost and server.random.random() < 0.5:
            raise exceptions.ConnectionError("reset")
        reply = command()
        await process.pause(self._process, server.random.uniform(0.0005, 0.01))
        if is_lost:
            raise exceptions.TimeoutError("no answer")
        return reply
