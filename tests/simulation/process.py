"""The process that a call comes from. A killed process changes nothing in the world any more.

The tasks of a killed process are cancelled, and may unwind as they like. Whatever they do then
stops at the edges, which know that the process is dead.
"""

import asyncio
from contextvars import ContextVar


class Process:
    """One life of the bridge."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_alive = True
        # Whether its network lets nothing through to Kafka, or to the exchange.
        self.has_no_kafka = self.has_no_exchange = False


current: ContextVar[Process] = ContextVar("process")


async def never() -> None:
    """Wait without end, as a dead process does."""
    await asyncio.get_running_loop().create_future()


async def pause(process: Process, seconds: float) -> None:
    """Wait on the way between a process and the world; never return if the process is dead."""
    await asyncio.sleep(seconds)
    if not process.is_alive:
        await never()
