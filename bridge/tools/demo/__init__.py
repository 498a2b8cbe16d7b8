"""The whole bridge in one process, to look at: brokers, an exchange, a consumer and a display.

    live Binance ─┐             ┌─▶ embedded Kafka ─▶ proof: records counted by a consumer
                  ├─▶ Service ──┤
    simulator ────┘             └─▶ embedded Redis ─▶ listener, latest prices ─▶ view

Whatever is shown has gone through: prices and rates are read from Redis as any consumer reads
them, and the summary counts the records of the Kafka topics.
"""

from bridge.tools.demo.options import DemoOptions
from bridge.tools.demo.show import run_demo
from bridge.tools.demo.summary import DemoFailed

__all__ = ["DemoFailed", "DemoOptions", "run_demo"]
