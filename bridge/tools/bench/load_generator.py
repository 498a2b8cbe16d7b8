"""The generator in a separate process: a simulated exchange that plays a load.

    python -m bridge.tools.bench.load_generator '{"phases": [{"rate": 5000, "seconds": 10}]}'

The first line has the port and the symbols. Then it prints a line twenty times a second: the time
in microseconds, and the number of messages handed to the sockets so far. It begins when all streams
are subscribed, and stops on SIGTERM.
"""

import asyncio
import signal
import sys
import time

import msgspec
import uvloop

from bridge.tools.bench.workload import Load, Offered, Schedule, read_source
from bridge.tools.simulator import SimulatedExchange

EVERY_S = 0.05


class Opening(msgspec.Struct):
    """The first line of the output."""

    port: int
    symbols: list[str]


class Progress(msgspec.Struct, array_like=True):
    """Every later line: a time, and the number of messages offered until then."""

    at_us: int
    offered: int


async def offer(load: Load) -> None:
    """Play the load to all subscribers until SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    source = read_source(load)
    speed: float | None
    if not load.phases:
        speed, offered = None, Offered(source, None)
    elif load.speed is None:
        speed, offered = 1.0, Offered(source, Schedule(load.phases))
    else:
        speed = load.speed
        offered = Offered(source, None, load.phases[0].seconds * speed * 1e6)
    exchange = SimulatedExchange(
        offered,
        port=load.port,
        speed=speed,
        start_after_streams=len(source.symbols) * len(load.streams),
    )
    async with exchange:
        _say(Opening(exchange.port, list(source.symbols)))
        while not stopped.is_set():
            _say(Progress(time.time_ns() // 1000, offered.count))
            await _wait(stopped)


async def _wait(stopped: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(EVERY_S):
            await stopped.wait()
    except TimeoutError:
        pass


def _say(line: Opening | Progress) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(offer(msgspec.json.decode(sys.argv[1], type=Load)))
