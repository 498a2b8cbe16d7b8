"""Clients of Kafka and Redis that sinks, consumers and tools share."""
