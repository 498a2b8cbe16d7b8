"""Opens a WebSocket connection with the library that the settings name."""

from bridge import settings
from bridge.binance.transport.base import FrameListener, WebSocket
from bridge.binance.transport.turns import Turns
from bridge.binance.transport.websockets_client import open_with_websockets
from bridge.errors import FeedRefused


async def open_websocket(
    options: settings.Binance, path: str, listener: FrameListener, turns: Turns
) -> WebSocket:
    """Connect to `path` (`/stream?streams=...`). `turns` are those of the other connections.

    Raises FeedRefused if trying again cannot help, FeedUnavailable if it may.
    """
    if options.transport == "websockets":
        return await open_with_websockets(options, path, listener, turns)
    try:
        # picows is an optional dependency.
        from bridge.binance.transport.picows_client import open_with_picows
    except ImportError as error:
        raise FeedRefused(
            f"binance.transport = picows: {error}",
            'pip install ".[fast]" in the repository, or set binance.transport: websockets',
        ) from error
    return await open_with_picows(options, path, listener, turns)
