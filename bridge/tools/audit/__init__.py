"""A topic proved from outside: by its records and its gap events alone, not by the bridge's word.

    Kafka ──▶ reader ──▶ announced   what gap events say is missing
                 │           │
                 └─────▶ topic ──▶ stream   a state machine each symbol ──▶ report

It shares no code with the bridge's own sequence: a mistake there must not hide itself here. Only
`reader` and `run` wait, and only `text` prints; the rest is pure.
"""
