"""How much one bridge carries: a simulator, a bridge, Kafka and Redis, each a process of its own.

    python -m benchmarks.throughput --rate 20000 --seconds 60 --capture FILE...

Plays the captures, looped, at the speed that gives `--rate` frames a second on average; without
captures a market is invented. Prints what went through each second, then the whole: rates, CPU
time a message, latencies, memory, the accounts. Kafka and Redis are containers unless `--kafka`
and `--redis` name others. Exits with 1 if anything was dropped or is left, or if less than 98 % of
the asked rate was offered: the figure would then be the simulator's.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.embedded import free_port
from bridge.simulator import Capture
from tests.brokers import KafkaBroker, RedisServer

SYMBOLS = ("BTCUSDT", "ETHUSDT")
STREAMS = ("trade", "bookTicker")
START_TIMEOUT_S = 30
OFFERED_SHARE = 0.98

Scrape = dict[str, float]


def main() -> None:
    options = _arguments()
    with ExitStack() as stack:
        kafka = options.kafka or stack.enter_context(KafkaBroker()).bootstrap_servers
        redis = options.redis or stack.enter_context(RedisServer()).url
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        port = free_port()
        settings = Path(folder, "tickbridge.yaml")
        settings.write_text(json.dumps(_settings(options, port, kafka, redis)))
        result = asyncio.run(_measure(options, port, settings))
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["ok"] else 1)


async def _measure(options: argparse.Namespace, port: int, settings: Path) -> dict[str, object]:
    async with (
        _tickbridge("simulate", *_simulation(options, port)),
        _tickbridge("run", "--config", str(settings)),
    ):
        return await _watch(options, f"http://127.0.0.1:{port + 1}")


async def _watch(options: argparse.Namespace, http: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as session:
        await _until_ready(session, http)
        first = before = await _scrape(session, http)
        for second in range(1, options.seconds + 1):
            await asyncio.sleep(1)
            now = await _scrape(session, http)
            print(_line(second, before, now), flush=True)
            before = now
    return _summary(options, first, before)


def _line(second: int, before: Scrape, now: Scrape) -> str:
    grown = {name: now[name] - before.get(name, 0) for name in now}
    return (
        f"{second:4} s  received {grown['received']:8.0f}/s  "
        f"kafka {grown['published kafka']:8.0f}/s  redis {grown['published redis']:8.0f}/s  "
        f"pending {now['pending kafka']:6.0f} {now['pending redis']:6.0f}  "
        f"dropped {now['dropped']:.0f}  cpu {grown['cpu'] * 100:3.0f} %"
    )


def _summary(options: argparse.Namespace, first: Scrape, last: Scrape) -> dict[str, object]:
    grown = {name: last[name] - first.get(name, 0) for name in last}
    received, seconds = grown["received"], grown["time"]
    rate = received / seconds
    pending = {sink: last[f"pending {sink}"] for sink in ("kafka", "redis")}
    return {
        "seconds": round(seconds, 1),
        "asked_per_s": options.rate,
        "received_per_s": round(rate),
        "published_per_s": {s: round(grown[f"published {s}"] / seconds) for s in pending},
        "pending": pending,
        "dropped": grown["dropped"],
        "cpu_us_per_message": round(grown["cpu"] / received * 1e6, 2),
        "cpu_share": round(grown["cpu"] / seconds, 3),
        "resident_mib": round(last["memory"] / 2**20, 1),
        "latency_s": {s: _quantiles(last, s) for s in pending},
        # What waits at the last look is under way: a second's worth would be a backlog.
        "ok": not grown["dropped"]
        and max(pending.values()) < rate
        and rate >= OFFERED_SHARE * options.rate,
    }


def _quantiles(scrape: Scrape, sink: str) -> dict[str, str]:
    prefix = f"latency {sink} "
    buckets = [(name.removeprefix(prefix), n) for name, n in scrape.items() if prefix in name]
    total = buckets[-1][1]
    return {
        f"p{share * 100:g}": "<= " + next(le for le, n in buckets if n >= share * total)
        for share in (0.5, 0.99)
    }


async def _scrape(session: aiohttp.ClientSession, http: str) -> Scrape:
    """The figures the benchmark needs, from the bridge's own metrics."""
    async with session.get(f"{http}/metrics") as response:
        text = await response.text()
    figures: Scrape = dict.fromkeys(("received", "dropped"), 0.0)
    figures["time"] = asyncio.get_running_loop().time()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if name := _figure(sample.name, sample.labels):
                figures[name] = figures.get(name, 0.0) + sample.value
    return figures


def _figure(metric: str, labels: Mapping[str, str]) -> str | None:
    sink = labels.get("sink", "")
    return {
        "tickbridge_received_total": "received",
        "tickbridge_dropped_total": "dropped",
        "tickbridge_published_total": f"published {sink}",
        "tickbridge_pending": f"pending {sink}",
        "tickbridge_sink_latency_seconds_bucket": f"latency {sink} {labels.get('le')}",
        "process_cpu_seconds_total": "cpu",
        "process_resident_memory_bytes": "memory",
    }.get(metric)


async def _until_ready(session: aiohttp.ClientSession, http: str) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                async with session.get(f"{http}/readyz") as response:
                    if response.ok:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)


def _simulation(options: argparse.Namespace, port: int) -> list[str]:
    if not options.capture:
        trades_per_s = options.rate / len(SYMBOLS) / 4  # about three quotes a trade
        return ["--port", str(port), "--symbols", ",".join(SYMBOLS), "--rate", f"{trades_per_s}"]
    speed = options.rate / _frames_per_s([Capture.read(path) for path in options.capture])
    captures = [word for path in options.capture for word in ("--capture", str(path))]
    return ["--port", str(port), "--speed", f"{speed:.3f}", *captures]


def _frames_per_s(captures: list[Capture]) -> float:
    """Frames of the benchmark's streams a second, all captures played side by side."""
    return (
        sum(_wanted(c) / (c.frames[-1].received_us - c.frames[0].received_us) for c in captures)
        * 1e6
    )


def _wanted(capture: Capture) -> int:
    return sum(frame.stream.endswith(tuple("@" + s for s in STREAMS)) for frame in capture.frames)


def _settings(options: argparse.Namespace, port: int, kafka: str, redis: str) -> dict[str, object]:
    here = f"127.0.0.1:{port}"
    return {
        "binance": {
            "symbols": SYMBOLS,
            "streams": STREAMS,
            "websocket_url": f"ws://{here}",
            "rest_url": f"http://{here}",
            "compression": options.compression,
            "transport": options.transport,
        },
        "kafka": {
            "bootstrap_servers": kafka,
            "topic": f"bench{uuid4().hex[:8]}." + "{venue}.{message_type}",
        },
        "redis": {"url": redis},
        "http": {"port": port + 1},
    }


@asynccontextmanager
async def _tickbridge(*words: str) -> AsyncIterator[None]:
    """One of our commands as a process, ended at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *words), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(START_TIMEOUT_S):
            await process.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=20_000, help="frames a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--capture", type=Path, action="append", default=[])
    parser.add_argument("--compression", choices=("deflate", "none"), default="deflate")
    parser.add_argument("--transport", choices=("websockets", "picows"), default="websockets")
    parser.add_argument("--kafka", help="HOST:PORT; a container where it is not given")
    parser.add_argument("--redis", help="redis://HOST:PORT/0; a container where it is not given")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    main()
