"""A listener, a process of its own: when each event arrived at a subscriber, beside `received`.

    python -m bridge.bench.listen redis redis://127.0.0.1:6379/0 'binance.spot.*' FILE
    python -m bridge.bench.listen kafka 127.0.0.1:9092 bench1.trade,bench1.quote FILE

Both clocks are those of one machine. Prints a line when it listens; at SIGTERM it writes to FILE
pairs of 64-bit integers, arrival and `received` in microseconds, and ends.
"""

import asyncio
import signal
import sys
import time
from array import array
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis import Redis

# 5 million pairs, 80 MB: a hundred seconds of the highest burst. Later events are not written down.
MAX_PAIRS = 5_000_000
READY = b"listening\n"


class Arrival(msgspec.Struct, gc=False):
    """The one field of an event that matters here."""

    received: int


_decode = msgspec.json.Decoder(Arrival).decode


class Stopped(BaseException):
    """SIGTERM."""


def listen_to_redis(url: str, pattern: str, pairs: "array[int]") -> None:
    """Read one connection without anything in between, for pub/sub through redis-py takes 20 us a
    message. Ends by Stopped.
    """
    with Redis.from_url(url, protocol=2, socket_timeout=None) as client:
        connection: Any = client.connection_pool.get_connection()
        connection.send_command("PSUBSCRIBE", pattern)
        connection.read_response(disable_decoding=True)
        _say_ready()
        while True:
            message = connection.read_response(disable_decoding=True)
            _note(pairs, time.time_ns() // 1000, message[-1])


async def listen_to_kafka(servers: str, topics: list[str], pairs: "array[int]") -> None:
    """Read all partitions from where they end. A record counts when the consumer has it: later
    than its acknowledgement, by one answer of the broker to a waiting fetch. Ends by SIGTERM.
    """
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers)
    await consumer.start()
    try:
        partitions = await _partitions(consumer, topics)
        consumer.assign(partitions)
        await consumer.seek_to_end()
        for partition in partitions:  # where the end is must be known before anything is written
            await consumer.position(partition)
        _say_ready()
        reading = asyncio.create_task(_read(consumer, pairs))
        await asyncio.wait(
            (reading, asyncio.ensure_future(stopped.wait())), return_when=asyncio.FIRST_COMPLETED
        )
        reading.cancel()
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topics: list[str]) -> list[TopicPartition]:
    known = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - knows unassigned topics
    return [TopicPartition(t, p) for t in topics for p in sorted(known.partitions_for_topic(t))]


async def _read(consumer: AIOKafkaConsumer, pairs: "array[int]") -> None:
    while True:
        batches = await consumer.getmany(timeout_ms=1000)
        arrived = time.time_ns() // 1000
        for records in batches.values():
            for record in records:
                _note(pairs, arrived, record.value)


def _note(pairs: "array[int]", arrived: int, value: bytes) -> None:
    if len(pairs) < 2 * MAX_PAIRS:
        pairs.append(arrived)
        pairs.append(_decode(value).received)


def _say_ready() -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


def _stop(*_: object) -> NoReturn:
    raise Stopped


def main(kind: str, address: str, names: str, path: str) -> None:
    pairs = array("q")
    try:
        if kind == "redis":
            signal.signal(signal.SIGTERM, _stop)
            listen_to_redis(address, names, pairs)
        else:
            uvloop.run(listen_to_kafka(address, names.split(","), pairs))
    except Stopped:
        pass
    Path(path).write_bytes(pairs.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
