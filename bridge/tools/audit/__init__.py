"""Audit a Kafka topic: check its records by their ids and by the gap events alone.

    TopicReader ─┬─▶ claims      what statuses say about ids and times
                 ├─▶ announced   the ids that gap events report as missing
                 │       │
                 │       ▼
                 └───▶ topic ──▶ stream   a state machine per symbol ──▶ report

`TopicReader` is the client in `bridge/brokers/kafka_reader.py`. The audit shares no code with the
sequencers of the bridge, so that a mistake there cannot hide itself here. Only `run` waits, and
only `text` prints; the other modules are pure.
"""
