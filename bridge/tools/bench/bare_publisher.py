"""Publishes events with the bare libraries in a separate process: the floor of the latencies.

    python -m bridge.tools.bench.bare_publisher 127.0.0.1:9092 redis://127.0.0.1:6379 TOPIC 5000 15

The last two are messages per second, and seconds. Every millisecond it sends what is due: one call
of aiokafka for each event, and one pipeline of redis-py for all. Nothing is read, ordered, bounded
or remembered. It prints the times of its first and its last event, in microseconds.
"""

import asyncio
import sys
import time

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from bridge.core.model.events import Trade
from bridge.core.model.stream import SPOT

TICK_S = 0.001
SYMBOL = "BTCUSDT"


class Span(msgspec.Struct):
    """The times of the first and of the last event, in microseconds."""

    begun_us: int
    ended_us: int


def _event(number: int) -> bytes:
    now = time.time_ns() // 1000
    return msgspec.json.encode(
        Trade(
            venue=SPOT,
            symbol=SYMBOL,
            timestamp=now,
            received=now,
            source="websocket",
            trade_id=number,
            price="61837.63000000",
            volume="0.02000000",
            side="buy",
        )
    )


async def publish(kafka: str, redis: str, topic: str, rate: int, seconds: float) -> Span:
    """Publish to Kafka and Redis at this rate."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, enable_idempotence=True, compression_type="zstd"
    )
    await producer.start()
    async with Redis.from_url(redis) as client:
        sent, begun_us = 0, time.time_ns() // 1000
        while sent < rate * seconds:
            await asyncio.sleep(TICK_S)
            due = (time.time_ns() // 1000 - begun_us) * rate // 1_000_000
            events = [_event(number) for number in range(sent, due)]
            pipeline = client.pipeline(transaction=False)
            for event in events:
                pipeline.publish(f"{SPOT}.trade:{SYMBOL}", event)
                await producer.send(topic, event, SYMBOL.encode())
            await pipeline.execute()
            sent = due
    await producer.stop()
    return Span(begun_us, time.time_ns() // 1000)


def main(kafka: str, redis: str, topic: str, rate: str, seconds: str) -> None:
    span = uvloop.run(publish(kafka, redis, topic, int(rate), float(seconds)))
    sys.stdout.buffer.write(msgspec.json.encode(span) + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
