"""The stage from the socket to frames, for each transport. The generator plays at full speed."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from bridge import settings
from bridge.binance.transport.base import MAX_WIRE_BYTES
from bridge.binance.transport.connect import open_websocket
from bridge.binance.transport.turns import Turns
from bridge.core.binance.stream_names import streams_path
from bridge.settings.urls import SecretUrl
from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.frame_counter import FrameCounter
from bridge.tools.bench.load_generator import Opening
from bridge.tools.bench.processes import START_TIMEOUT_S, python
from bridge.tools.bench.stages import Material, least
from bridge.tools.bench.workload import Load, Wire

_CHUNK_BYTES = 2**15
_WINDOW_BITS = 12  # the value that the server of websockets uses


async def socket_to_frames(load: Load, material: Material, rounds: int, wire: Wire) -> float:
    """Measure our transport over a socket, in microseconds per frame."""
    path = streams_path(list(material.streams), microseconds=False)

    async def ours(url: str, receiver: FrameCounter) -> Callable[[], object]:
        options = settings.Binance.model_validate(
            {
                "symbols": ["ANY"],
                "websocket_url": url,
                "transport": wire.transport,
                "compression": wire.compression,
                "proxy": SecretUrl("none"),
            }
        )
        return (await open_websocket(options, path, receiver, Turns())).close

    return await _over_socket(load, 2 * len(material.frames), rounds, ours)


async def socket_floor(load: Load, material: Material, rounds: int, wire: Wire) -> float:
    """Measure the library alone: the parser of websockets in a loop, or a bare picows client over a
    socket. The result is microseconds per frame.
    """
    if wire.transport != "picows":
        return await _protocol_floor(material, rounds, deflate=wire.is_compressed)
    path = streams_path(list(material.streams), microseconds=False)

    async def bare(url: str, receiver: FrameCounter) -> Callable[[], object]:
        # picows is an optional dependency.
        from bridge.tools.bench.bare_picows import open_bare

        return await open_bare(url + path, receiver)

    return await _over_socket(load, 2 * len(material.frames), rounds, bare)


async def _over_socket(
    load: Load, frames: int, rounds: int, connect: Callable[..., object]
) -> float:
    costs = []
    for _ in range(rounds):
        receiver = FrameCounter(frames)
        with tempfile.TemporaryDirectory() as folder:
            words = ("bridge.tools.bench.load_generator", msgspec.json.encode(load).decode())
            async with python(Path(folder), *words) as exchange:
                opening = msgspec.json.decode(await exchange.line(), type=Opening)
                close = await connect(f"ws://127.0.0.1:{opening.port}", receiver)  # type: ignore[misc]
                try:
                    async with asyncio.timeout(START_TIMEOUT_S):
                        await receiver.done.wait()
                except TimeoutError:
                    raise BenchFailed(
                        f"`{exchange.name}` has not sent {frames:,} frames in {START_TIMEOUT_S:g} s"
                    ) from None
                finally:
                    if asyncio.iscoroutine(closing := close()):
                        await closing
        costs.append(receiver.cost_s)
    return min(costs) * 1e6


async def _protocol_floor(material: Material, rounds: int, *, deflate: bool) -> float:
    extensions = [_deflate()] if deflate else []
    frames = [Frame(Opcode.TEXT, text) for text in material.frames]
    wire = b"".join(frame.serialize(mask=False, extensions=extensions) for frame in frames)
    chunks = [wire[at : at + _CHUNK_BYTES] for at in range(0, len(wire), _CHUNK_BYTES)]

    async def parse() -> None:
        uri = parse_uri("ws://localhost/")
        protocol = ClientProtocol(uri, state=State.OPEN, max_size=MAX_WIRE_BYTES)
        if deflate:
            protocol.extensions = [_deflate()]
        for chunk in chunks:
            protocol.receive_data(chunk)
            protocol.events_received()

    return await least(len(frames), rounds, parse)


def _deflate() -> PerMessageDeflate:
    """Return deflate as the generator negotiates it: one context for all messages."""
    keeps = {"remote_no_context_takeover": False, "local_no_context_takeover": False}
    bits = {"remote_max_window_bits": _WINDOW_BITS, "local_max_window_bits": _WINDOW_BITS}
    return PerMessageDeflate(**keeps, **bits)  # type: ignore[arg-type]
