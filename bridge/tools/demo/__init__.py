"""The demo: the whole bridge in one process, with brokers, an exchange, consumers and a display.

    live Binance ─┐             ┌─▶ embedded Kafka ─▶ kafka_check: a consumer counts records
                  ├─▶ Service ──┤
    simulator ────┘             └─▶ embedded Redis ─▶ listener, latest prices ─▶ view

All displayed prices and message rates per symbol are read from Redis, as any consumer reads them.
The summary counts the records of the Kafka topics.
"""

from bridge.tools.demo.options import DemoOptions
from bridge.tools.demo.show import run_demo
from bridge.tools.demo.summary import DemoFailed

__all__ = ["DemoFailed", "DemoOptions", "run_demo"]
