"""The Kafka sink: the complete record."""
