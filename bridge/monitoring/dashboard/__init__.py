"""The dashboard at `/`: one page, and one stream of server-sent events to each viewer.

    Pipeline ──▶ Market: prices, last trades ─────────┐
                                                      ├─▶ Dashboard: 5 frames/s ─▶ viewers
    Status ────▶ Health: connections, sinks, gaps ────┘

All viewers get the same frame, which is encoded once. A viewer that does not read in time misses
frames, and then gets the whole state. Without viewers nothing is encoded.
"""

from bridge.monitoring.dashboard.broadcast import Dashboard

__all__ = ["Dashboard"]
