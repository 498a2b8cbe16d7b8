"""The records that wait for Kafka, in memory and on disk."""
