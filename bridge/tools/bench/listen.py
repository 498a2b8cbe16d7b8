"""A listener, a process of its own: when each event arrived at a subscriber, beside `received`.

    python -m bridge.tools.bench.listen redis redis://127.0.0.1:6379/0 'binance.spot.*' FILE
    python -m bridge.tools.bench.listen kafka 127.0.0.1:9092 bench1.trade,bench1.quote FILE

Both clocks are those of one machine. Prints a line when it listens; at SIGTERM it writes to FILE
pairs of 64-bit integers, arrival and `received` in microseconds, and ends.
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

# 5 million pairs, 80 MB: a hundred seconds of the highest burst. Later events are not written down.
MAX_PAIRS = 5_000_000
TIMEOUT_S = 10.0
# The library sees a signal when it has given up waiting.
POLL_S = 0.2
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


def listen_to_kafka(servers: str, topics: list[str], pairs: "array[int]") -> None:
    """Read all partitions from where they end. A record counts when the consumer has it: later
    than its acknowledgement, by one answer of the broker to a waiting fetch. Ends by Stopped.

    Through librdkafka: aiokafka's consumer takes a third of a core at 5,000 messages a second, of
    the two that all share.
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
            _note(pairs, time.time_ns() // 1000, message.value() or b"")
    finally:
        consumer.close()


def _at_end(consumer: Consumer, topic: str, number: int) -> TopicPartition:
    """Where a partition ends must be known before anything is written."""
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=TIMEOUT_S)
    return TopicPartition(topic, number, end)


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
        signal.signal(signal.SIGTERM, _stop)
        if kind == "redis":
            listen_to_redis(address, names, pairs)
        else:
            listen_to_kafka(address, names.split(","), pairs)
    except Stopped:
        pass
    Path(path).write_bytes(pairs.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
