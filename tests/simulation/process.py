"""Which process a call comes from: a process that was killed changes nothing in the world any more.

A killed process's tasks are cancelled, and may unwind as they like: whatever they do on their way
out ends at the edges, which know that it is dead.
"""

import asyncio
from contextvars import ContextVar


class Process:
    """One life of the bridge."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_alive = True


current: ContextVar[Process] = ContextVar("process")


async def never() -> None:
    """What a dead process waits for."""
    await asyncio.get_running_loop().create_future()


async def pause(process: Process, seconds: float) -> None:
    """A wait on the way between a process and the world; a dead one gets no farther."""
    await asyncio.sleep(seconds)
    if not process.is_alive:
        await never()
