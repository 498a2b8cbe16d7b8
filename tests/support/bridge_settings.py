"""The settings of a bridge under test."""

from typing import Any

from bridge.tools.simulator import SimulatedExchange


def bridge_settings(
    exchange: SimulatedExchange,
    bootstrap_servers: str,
    redis_url: str,
    unique: str,
    **binance: object,
) -> dict[str, Any]:
    """Return settings of a bridge that reads from `exchange` and has topics of its own."""
    return {
        "binance": {
            "websocket_url": exchange.websocket_url,
            "rest_url": exchange.rest_url,
            **binance,
        },
        "kafka": {
            "bootstrap_servers": bootstrap_servers,
            "topic": unique + ".{venue}.{message_type}",
            # Captures are older than what any broker keeps by default.
            "retention_ms": -1,
        },
        "redis": {"url": redis_url},
        "http": {"port": 0},
    }
