"""A connection verified: what comes over it, and what becomes of it when something goes wrong.

    settings ──▶ error cases    five, provoked on loopback
        │
        └──────▶ live ──▶ observer ──▶ observation ──▶ checks ──▶ report
                 (the bridge's own feed, without Kafka and Redis)

`live` and `error_cases` wait, `text` prints; the rest is pure.
"""
