"""A listener in a separate process: stores the arrival and the `received` of each event.

    python -m bridge.tools.bench.listen redis redis://127.0.0.1:6379/0 'binance.spot.*' FILE
    python -m bridge.tools.bench.listen kafka 127.0.0.1:9092 bench1.trade,bench1.quote FILE
    python -m bridge.tools.bench.listen prices redis://127.0.0.1:6379/0 binance.spot.latest:X FILE

The last one looks at the latest quote of a symbol a hundred times a second, and stores each time
when it looked, and when that quote was received.

Both times come from the clock of one machine. It prints a line when it listens. On SIGTERM it
writes pairs of 64-bit integers to FILE, arrival and `received` in microseconds, and exits.
"""

import signal
import sys
import time
from array import array
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis import Redis

# 5 million pairs take 80 MB and hold 100 s of the highest burst. Later events are ignored.
MAX_PAIRS = 5_000_000
TIMEOUT_S = 10.0
# Python handles a signal only after `poll` has returned.
POLL_S = 0.2
LOOK_S = 0.01
READY = b"listening\n"


class Arrival(msgspec.Struct, gc=False):
    """The only field of an event that is needed here."""

    received: int


_decode = msgspec.json.Decoder(Arrival).decode


class Stopped(BaseException):
    """Raised on SIGTERM."""


def listen_to_redis(url: str, pattern: str, pairs: "array[int]") -> None:
    """Read one connection directly, because pub/sub of redis-py takes 20 us per message.

    Runs until Stopped is raised.
    """
    with Redis.from_url(url, protocol=2, socket_timeout=None) as client:
        connection: Any = client.connection_pool.get_connection()
        connection.send_command("PSUBSCRIBE", pattern)
        connection.read_response(disable_decoding=True)
        _say_ready()
        while True:
            message = connection.read_response(disable_decoding=True)
            _note(pairs, time.time_ns() // 1000, _decode(message[-1]).received)


def listen_to_kafka(servers: str, topics: list[str], pairs: "array[int]") -> None:
    """Read all partitions from their current end, until Stopped is raised.

    A record arrives when the consumer has it. That is later than its acknowledgement by one answer
    of the broker to a waiting fetch.

    The client is librdkafka: the consumer of aiokafka takes a third of a core at 5,000 messages per
    second, and all processes share two cores.
    """
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench"})
    try:
        known = consumer.list_topics(timeout=TIMEOUT_S).topics
        consumer.assign(
            [
                _at_end(consumer, topic, number)
                for topic in topics
                for number in known[topic].partitions
            ]
        )
        _say_ready()
        while True:
            message = consumer.poll(POLL_S)
            if message is None:
                continue
            if error := message.error():
                raise KafkaException(error)
            _note(pairs, time.time_ns() // 1000, _decode(message.value() or b"").received)
    finally:
        consumer.close()


def look_at_prices(url: str, key: str, pairs: "array[int]") -> None:
    """Look at the latest quote of a symbol until Stopped is raised."""
    with Redis.from_url(url) as client:
        _say_ready()
        while True:
            # A quote of the exchange has no time of its own, so this is when it was received.
            received: Any = client.hget(key, "quote_time")
            if received is not None:
                _note(pairs, time.time_ns() // 1000, int(received))
            time.sleep(LOOK_S)


def _at_end(consumer: Consumer, topic: str, number: int) -> TopicPartition:
    """Return the current end of a partition, before anything is written to it."""
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=TIMEOUT_S)
    return TopicPartition(topic, number, end)


def _note(pairs: "array[int]", arrived: int, received: int) -> None:
    if len(pairs) < 2 * MAX_PAIRS:
        pairs.append(arrived)
        pairs.append(received)


def _say_ready() -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


def _stop(*_: object) -> NoReturn:
    raise Stopped


def main(kind: str, address: str, names: str, path: str) -> None:
    pairs = array("q")
    try:
        signal.signal(signal.SIGTERM, _stop)
        if kind == "redis":
            listen_to_redis(address, names, pairs)
        elif kind == "prices":
            look_at_prices(address, names, pairs)
        else:
            listen_to_kafka(address, names.split(","), pairs)
    except Stopped:
        pass
    Path(path).write_bytes(pairs.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
