"""Verifies a connection: the events it brings, and the reaction of the bridge to errors.

    settings ──▶ error cases    five errors, provoked on loopback
        │
        └──────▶ live ──▶ observer ──▶ observation ──▶ checks ──▶ report
                 (the bridge's own feed, without Kafka and Redis)

`live` and `error_cases` wait, `text` prints; the other modules are pure.
"""
